#!/bin/bash
# Installs the Debian packages that guest-images/packages.txt names and this machine lacks.
# Does nothing, quickly, if none is missing. Without root it says what to run instead.
set -euo pipefail

list=$(dirname "$(readlink -f "$0")")/packages.txt

missing=()
while read -r package; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done < <(grep --invert-match --extended-regexp '^(#|$)' "$list")

((${#missing[@]})) || exit 0

if [[ ${1:-} == --check ]] || ((EUID != 0)); then
    {
        echo "The guest image needs Debian packages that are not installed. As root, run:"
        echo "    apt-get install --no-install-recommends ${missing[*]}"
    } >&2
    exit 1
fi

echo "Installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2 >&2
apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >&2
