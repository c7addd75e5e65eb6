#!/bin/sh
# A shell, pipes, forks, files, sleeps, randomness. Not for twins on kvm-pvm: see README.md.
# Few forks, because one costs half a second on kvm-pvm.
say() { echo "lockstep: shelltest $*"; }

i=0
while [ $i -lt 40 ]; do
    echo "$((i * 7919 % 1009)) $i"
    i=$((i + 1))
done >/tmp/numbers
sort -n /tmp/numbers | sha256sum >/tmp/sorted
read -r sorted rest </tmp/sorted
say "sorted $sorted"

dd if=/dev/zero of=/tmp/zeros bs=4096 count=16 2>/dev/null
sha256sum </tmp/zeros >/tmp/digest
read -r zeros rest </tmp/digest
say "zeros $zeros"

sleep 0.3 &
sleep 0.1
wait

# Differs from boot to boot, and must not differ between twins.
dd if=/dev/urandom bs=32 count=1 2>/dev/null | sha256sum >/tmp/digest
read -r random rest </tmp/digest
say "random $random"

if [ "$sorted" = 53faab986442397ee96297bc04579ef0e2be0aadb97d7e7110adf6611ef2c967 ] &&
    [ "$zeros" = de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31 ]; then
    say ok
else
    say "FAILED: wrong digests"
fi
