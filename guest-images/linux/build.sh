#!/bin/bash
# Builds the `linux` guest image: a kernel (cached outside the checkout) and an initramfs.
# Progress goes to stderr; stdout gets only what the caller needs, as KEY=VALUE lines:
#
#     KERNEL=PATH         vmlinux, an uncompressed ELF file with its symbols
#     INITRD=PATH         uncompressed cpio: init with its services, no shell
#     INITRD_SHELL=PATH   the same and busybox, for lockstep.run=sh and lockstep.run=shelltest
#     SYSTEM_MAP=PATH     the kernel's symbols
#     CMDLINE=TEXT        recommended kernel command line, without ip= and virtio_mmio.device=
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")

"$here/../install-packages.sh" --check
kernel=$("$here/kernel.sh")
out=$("$here/initramfs.sh" "$kernel/gen_init_cpio")

echo "KERNEL=$kernel/vmlinux"
echo "INITRD=$out/initramfs.cpio"
echo "INITRD_SHELL=$out/initramfs-shell.cpio"
echo "SYSTEM_MAP=$kernel/System.map"
echo "CMDLINE=$(<"$here/command-line.txt")"
