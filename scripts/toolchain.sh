#!/bin/bash
# Checks that there is a Rust toolchain that can build lockstep and its guests, and adds the guests'
# targets to it. Says what to do where there is none.
set -euo pipefail

cd "$(dirname "$0")/.."

needed=$(sed --quiet 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

how_to() {
    {
        echo "$1"
        echo "lockstep needs Rust $needed or later, which Debian does not package. Install it with rustup:"
        echo "    apt-get install --no-install-recommends ca-certificates curl"
        echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default"
        echo "and run make again. (See https://rustup.rs.)"
    } >&2
    exit 1
}

for command in cargo rustc; do
    command -v "$command" >/dev/null || how_to "There is no $command on this machine."
done
found=$(rustc --version | cut --delimiter=' ' --fields=2)
oldest=$(printf '%s\n' "$needed" "${found%%-*}" | sort --version-sort | head --lines=1)
[[ $oldest == "$needed" ]] || how_to "This machine's rustc is $found, which is too old."
command -v rustup >/dev/null || how_to "There is no rustup, which adds the targets of the guests."

# The bare-metal guests' target, and that of the Linux guest's programs.
installed=$(rustup target list --installed)
for target in x86_64-unknown-none x86_64-unknown-linux-musl; do
    grep --quiet --line-regexp "$target" <<<"$installed" || rustup target add "$target" >&2
done
