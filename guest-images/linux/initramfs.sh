#!/bin/bash
# Packs the initial RAM disks with GEN_INIT_CPIO (the kernel's own tool: no root needed, and owner,
# order and inode numbers come from the list) and prints the folder that holds them.
#
#     initramfs.sh GEN_INIT_CPIO
set -euo pipefail
export LC_ALL=C

here=$(dirname "$(readlink -f "$0")")
out=$here/out
gen_init_cpio=$1
busybox=/bin/busybox

say() { echo "guest initramfs: $*" >&2; }

# With musl, not glibc: see `check_program`. Sets `program`.
build_program() {
    local target=x86_64-unknown-linux-musl
    if [[ ! -d $(rustc --print target-libdir --target "$target") ]]; then
        say "installing Rust's standard library for $target"
        rustup target add "$target" >&2
    fi
    say "building guest programs"
    # The caller's flags are for the host's programs.
    (cd "$here/../programs" && env --unset=RUSTFLAGS --unset=CARGO_ENCODED_RUSTFLAGS \
        --unset=CARGO_BUILD_TARGET cargo build --quiet --release --locked \
        --target "$target" --target-dir target >&2)
    program=$here/../programs/target/$target/release/guest
    check_program
}

# What these instructions say comes from the host, past the log: in user space kvm-pvm runs them
# natively. glibc executes `cpuid` in each program that starts, and keeps the answer, which names the
# host's core, in memory.
check_program() {
    local found
    found=$(objdump --disassemble --no-show-raw-insn "$program" |
        grep --extended-regexp '\b(cpuid|xgetbv|rdtscp?|rdrand|rdseed|rdpmc|rdpid)\b' || true)
    if [[ -n $found ]]; then
        say "$program asks the processor for what twins may see differently:"
        head --lines=10 <<<"$found" >&2
        return 1
    fi
    if readelf --program-headers --wide "$program" | grep --quiet INTERP; then
        say "$program is not static"
        return 1
    fi
}

list() {
    cat <<LIST
dir /dev 755 0 0
nod /dev/console 600 0 0 c 5 1
dir /proc 755 0 0
dir /tmp 1777 0 0
dir /disk 755 0 0
dir /bin 755 0 0
file /init $scratch/guest 755 0 0
slink /bin/counterd ../init 777 0 0
slink /bin/echod ../init 777 0 0
LIST
}

list_shell() {
    cat <<LIST
slink /bin/sh busybox 777 0 0
file /bin/shelltest.sh $scratch/shelltest.sh 755 0 0
file /bin/busybox $scratch/busybox 755 0 0
LIST
}

# The list comes on stdin.
pack() {
    "$gen_init_cpio" -t 0 - >"$scratch/$1"
    mv "$scratch/$1" "$out/$1"
}

build_program
mkdir --parents "$out"
scratch=$(mktemp --directory "$out/.building.XXXXXX")
trap 'rm --recursive --force "$scratch"' EXIT
cp "$program" "$here/shelltest.sh" "$busybox" "$scratch/"
# gen_init_cpio writes a file's own time whatever -t says.
touch --date=@0 "$scratch"/*

list | pack initramfs.cpio
{ list; list_shell; } | pack initramfs-shell.cpio
echo "$out"
