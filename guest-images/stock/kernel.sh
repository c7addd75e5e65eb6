#!/bin/bash
# Fetches Debian's own kernel, unless the cache has it, and prints the folder that holds it: vmlinuz, as it
# is in the package, and config. Nothing is installed, nothing is changed.
#
# Which package that is, `linux-image-cloud-amd64` says: it depends on the kernel of the day. A folder's name is that
# kernel's name and version. It appears in one step, when it is complete.
set -euo pipefail
export LC_ALL=C

meta_package=linux-image-cloud-amd64
cache=${LOCKSTEP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockstep}

say() { echo "stock kernel: $*" >&2; }

# Sets `package` and `version`.
resolve() {
    package=$(apt-cache depends --important "$meta_package" 2>/dev/null |
        sed --quiet 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head --lines=1)
    [[ -n $package ]] || return 1
    version=$(apt-cache show --no-all-versions "$package" | sed --quiet 's/^Version: //p' | head --lines=1)
    [[ -n $version ]]
}

# Downloads and unpacks into $work.
fetch() {
    say "downloading $package $version"
    # As root, apt-get would download as another user, who may not write here.
    (cd "$work" && apt-get download --quiet=2 --option APT::Sandbox::User=root "$package=$version" >&2) || return 1
    dpkg-deb --fsys-tarfile "$work"/*.deb |
        tar --extract --directory "$work" --wildcards './boot/vmlinuz-*' './boot/config-*'
    mkdir "$work/kept"
    mv "$work"/boot/vmlinuz-* "$work/kept/vmlinuz"
    mv "$work"/boot/config-* "$work/kept/config"
}

# Asks the archive what it has now: the lists on this machine may be missing, or name what is gone.
refresh() {
    if ((EUID != 0)); then
        say "apt knows no $meta_package that it can download; as root, run: apt-get update"
        return 1
    fi
    say "asking the package archive for its lists"
    apt-get update --quiet=2 >&2
}

# Prints the folder of the package that apt knows of, after fetching it.
current() {
    local package version work kernel
    resolve || return 1
    kernel=$cache/stock-${package#linux-image-}_$version
    if [[ ! -d $kernel ]]; then
        mkdir --parents "$cache"
        work=$(mktemp --directory "$cache/stock.building.XXXXXX")
        # shellcheck disable=SC2064
        trap "rm --recursive --force '$work'" EXIT
        fetch || return 1
        # Another build may have been faster; its bytes are the same.
        mv --no-target-directory "$work/kept" "$kernel" 2>/dev/null || [[ -d $kernel ]]
    fi
    echo "$kernel"
}

# Prints the newest folder of the cache.
newest_kept() {
    local kept
    kept=$(find "$cache" -maxdepth 1 -type d -name 'stock-*' -printf '%T@ %p\n' 2>/dev/null |
        sort --numeric-sort | tail --lines=1 | cut --delimiter=' ' --fields=2-)
    [[ -n $kept ]] || return 1
    say "the archive cannot be reached; taking what an earlier build has kept"
    echo "$kept"
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say "this is no Debian: there is no apt-get to download its kernel with"
    exit 1
fi
# Subshells, for the scratch folder's sake: each cleans up after itself.
(current) || { refresh && (current); } || newest_kept || {
    say "cannot get Debian's kernel: the package archive must be reachable, and amd64 its architecture;"
    say "see what 'apt-cache policy $meta_package' says"
    exit 1
}
