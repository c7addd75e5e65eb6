#!/bin/bash
# Format, lints and all tests, each with its own headline; a failure does not hide what comes after it.
# `make test` builds the guest images before; by hand: make images && scripts/test.sh
set -euo pipefail

cd "$(dirname "$0")/.."

# The tests find the guest images in the environment.
if [[ -z ${LOCKSTEP_BARE_DIR:-} ]]; then exec scripts/with-images.sh scripts/test.sh; fi

# The loader is tested on real kernels.
export LOCKSTEP_TEST_VMLINUX=$LOCKSTEP_LINUX_KERNEL
export LOCKSTEP_TEST_VMLINUZ=$LOCKSTEP_STOCK_KERNEL

# Guests have workspaces of their own: other targets, other flags.
programs=guest-images/programs
bare=guest-images/bare

have_nextest() { cargo nextest --version >/dev/null 2>&1; }

format() {
    cargo fmt --all --check
    (cd "$programs" && cargo fmt --all --check)
    (cd "$bare" && cargo fmt --all --check)
}

lints() {
    cargo clippy --locked --workspace --all-targets -- --deny warnings
    (cd "$programs" && cargo clippy --locked --all-targets -- --deny warnings)
    cd "$bare"
    cargo clippy --locked --all-targets -- --deny warnings
    cargo clippy --locked --package guests --target x86_64-unknown-none -- --deny warnings
}

dependencies() {
    if ! cargo deny --version >/dev/null 2>&1; then
        echo "SKIPPED: cargo-deny is not installed. To have it: cargo install cargo-deny --locked"
        return
    fi
    cargo deny --workspace check
}

guest_tests() {
    (cd "$programs" && cargo test --locked --no-fail-fast)
    # Not the guests themselves, which run on no host.
    (cd "$bare" && cargo test --locked --no-fail-fast)
}

workspace_tests() {
    # The end-to-end tests run the program of their own profile, target/debug/lockstep.
    cargo build --locked --workspace --bins --tests
    if have_nextest; then
        cargo nextest run --locked --workspace --no-fail-fast
        # nextest runs no documentation tests.
        cargo test --locked --workspace --doc --quiet
    else
        # One test program after the other, and in each one test at a time where machines run.
        cargo test --locked --workspace --exclude lockstep-tests --no-fail-fast
        cargo test --locked --package lockstep-tests --no-fail-fast -- --test-threads=1
    fi
}

failed=()
step() {
    local name=$1 status
    printf '\n=== %s (after %d min %d s)\n' "$name" $((SECONDS / 60)) $((SECONDS % 60))
    # Not `if ! (…)`: there `set -e` would mean nothing inside.
    set +e
    (
        set -e
        "$2"
    )
    status=$?
    set -e
    ((status == 0)) || failed+=("$name")
}

step "format" format
step "lints" lints
step "dependencies: licences, advisories, sources" dependencies
step "tests of the guests" guest_tests
step "tests of the workspace" workspace_tests

printf '\n=== after %d min %d s: ' $((SECONDS / 60)) $((SECONDS % 60))
if ((${#failed[@]})); then
    printf 'FAILED:'
    printf ' [%s]' "${failed[@]}"
    echo
    exit 1
fi
echo "all passed"
