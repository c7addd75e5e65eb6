#!/bin/bash
# Format, lints and all tests, each with its own headline. Stops at the first that fails.
# `make test` builds the guest images before; by hand: make images && scripts/test.sh
set -euo pipefail

cd "$(dirname "$0")/.."

# The tests find the guest images in the environment.
if [[ -z ${LOCKSTEP_BARE_DIR:-} ]]; then exec scripts/with-images.sh scripts/test.sh; fi

# Guests have workspaces of their own: other targets, other flags.
guests=(guest-images/programs guest-images/bare)

headline() { printf '\n=== %s (after %d min %d s)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

# In the folder $1. nextest runs no documentation tests.
run_tests() {
    local folder=$1
    shift
    if cargo nextest --version >/dev/null 2>&1; then
        (cd "$folder" && cargo nextest run --locked --no-fail-fast --no-tests=pass "$@")
        (cd "$folder" && cargo test --locked --doc --quiet "$@")
    else
        (cd "$folder" && cargo test --locked --no-fail-fast "$@")
    fi
}

headline "format"
cargo fmt --all --check
for folder in "${guests[@]}"; do (cd "$folder" && cargo fmt --all --check); done

headline "lints"
cargo clippy --locked --workspace --all-targets -- --deny warnings
for folder in "${guests[@]}"; do (cd "$folder" && cargo clippy --locked --all-targets -- --deny warnings); done
(cd guest-images/bare && cargo clippy --locked --package guests --target x86_64-unknown-none -- --deny warnings)

headline "dependencies: licences, advisories, sources"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --workspace check
else
    echo "SKIPPED: cargo-deny is not installed. To have it: cargo install cargo-deny --locked"
fi

for folder in "${guests[@]}"; do
    headline "tests of $folder"
    run_tests "$folder"
done

headline "tests of the workspace"
# The end-to-end tests run the program of their own profile, target/debug/lockstep.
cargo build --locked --package vmm --bin lockstep
run_tests . --workspace

headline "all passed"
