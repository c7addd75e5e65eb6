#!/bin/sh
# Builds the bare-metal guests. On stdout: one line NAME=PATH for each; all else on stderr.
set -eu
cd "$(dirname "$0")"
target=x86_64-unknown-none

{
    # Without rustup, cargo says what it lacks.
    if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$target"; then
        rustup target add "$target"
    fi
    # Flags meant for the host's programs would take the place of .cargo/config.toml's.
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET \
        cargo build --quiet --locked --release --package guests --target "$target" --target-dir target
} >&2

for source in guests/src/bin/*; do
    name=$(basename "$source" .rs)
    image=$PWD/target/$target/release/$name
    # A folder is a guest that checks the processor: it wants all of it.
    if [ -d "$source" ]; then ./check.sh --any-instruction "$image" >&2; else ./check.sh "$image" >&2; fi
    echo "$name=$image"
done
