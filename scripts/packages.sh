#!/bin/bash
# Installs what the build, the demo and the tests need beside a Rust toolchain, and this machine lacks:
# the guest images' packages, and the package of each command below. Without root it says what to install.
set -euo pipefail

cd "$(dirname "$0")/.."

# COMMAND:PACKAGE
commands=(
    gdb:gdb # the test that a debugger goes to and fro in a replay
    e2fsck:e2fsprogs # disks for the Linux guest: made, and checked after failovers
    ip:iproute2 # taps, bridges and network namespaces
    nbdcopy:libnbd-bin # the tests that standard clients read the disk server's exports
    patch:patch # the guest kernel's patches
    python3:python3 # scripts/show-log.py, and the test that it reads what we write
)

if ! command -v apt-get >/dev/null; then
    {
        echo "This is no Debian: cannot install packages by apt-get. Going on; what is needed is listed in"
        echo "guest-images/packages.txt and scripts/packages.sh."
    } >&2
    exit 0
fi

guest-images/install-packages.sh

missing=()
for pair in "${commands[@]}"; do
    command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
((${#missing[@]})) || exit 0

if ((EUID != 0)); then
    {
        echo "Commands are missing. As root, run:"
        echo "    apt-get install --no-install-recommends ${missing[*]}"
    } >&2
    exit 1
fi
echo "Installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2 >&2
apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >&2
