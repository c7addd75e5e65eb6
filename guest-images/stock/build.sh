#!/bin/bash
# Gets the `stock` guest: Debian's own kernel for virtual machines, as it ships.
# Progress goes to stderr; stdout gets only what the caller needs, as KEY=VALUE lines:
#
#     KERNEL=PATH         vmlinuz, a bzImage
#     CMDLINE=TEXT        recommended kernel command line
#
# Its initial RAM disk is the `linux` guest's with the shell (LOCKSTEP_LINUX_INITRD_SHELL).
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")

kernel=$("$here/kernel.sh")

echo "KERNEL=$kernel/vmlinuz"
echo "CMDLINE=$(<"$here/command-line.txt")"
