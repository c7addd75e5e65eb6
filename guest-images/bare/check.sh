#!/bin/sh
# Refuses an image that a host which emulates guest kernel code could not run (see README.md):
# SSE, AVX, x87, popcnt and friends, software interrupts, and thread-local storage nobody set up.
# With --any-instruction it checks only that the image is a static executable.
set -eu
any=
if [ "$1" = --any-instruction ]; then
    any=yes
    shift
fi
image=$1

# `tzcnt` is fine: without BMI the compiler means `bsf`, which is what such a host takes it for.
code=$(objdump --disassemble --no-show-raw-insn "$image" | grep -E '^ +[0-9a-f]+:')
bad=$(printf '%s\n' "$code" | grep -E \
    -e '%[xyz]?mm[0-9]|%st\b|%[fg]s:' \
    -e ':[[:space:]]+(lock )?(popcnt|lzcnt|int|int3|rdtscp|rdrand|rdseed|xgetbv|x(save|rstor)[a-z0-9]*)\b' \
    -e ':[[:space:]]+(lock )?(clac|stac|cmpxchg16b|f[a-z0-9]+|[lms]fence|\(bad\))([[:space:]]|$)' \
    || true)
if [ -z "$any" ] && [ -n "$bad" ]; then
    echo "$image has instructions that some hosts do not emulate:" >&2
    printf '%s\n' "$bad" | head -n 20 >&2
    exit 1
fi
if readelf --program-headers --wide "$image" | grep -qE 'INTERP|DYNAMIC' \
    || ! readelf --file-header "$image" | grep -q 'Type: *EXEC'; then
    echo "$image is not a static executable" >&2
    exit 1
fi
