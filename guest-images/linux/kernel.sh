#!/bin/bash
# Builds the guest kernel, unless the cache has it, and prints the folder that holds it:
# vmlinux, System.map, config and gen_init_cpio (which packs the initramfs).
#
# A folder's name is a digest of all that the kernel is made from. It appears in one step, when it is
# complete; two builds at once wait for each other. The time, user and host that kernels record are
# fixed, so that two machines with the same compiler get the same bytes.
set -euo pipefail
export LC_ALL=C

here=$(dirname "$(readlink -f "$0")")
source_package=linux-source-6.1
source_archive=/usr/src/$source_package.tar.xz
cache=${LOCKSTEP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lockstep}
# Lines that `make` prints for the whole kernel, roughly: for the progress line only.
expected_lines=1330

say() { echo "guest kernel: $*" >&2; }

digest() {
    {
        dpkg-query --show "$source_package"
        gcc --version
        ld --version
        cat "$here/kernel.sh" "$here/config.fragment"
        find "$here/patches" -name '*.patch' -print0 | sort --zero-terminated | xargs --null --no-run-if-empty cat
    } | sha256sum | cut --characters=-16
}

unpack() {
    say "unpacking $source_archive"
    mkdir "$work/source"
    # A third of the files are of no use to this kernel; Kconfig wants every Kconfig file.
    tar --extract --file "$source_archive" --directory "$work/source" --strip-components=1 \
        --anchored --exclude="$source_package/"{'arch/[a-w]*/*.'{c,h,S,'dts*'},'Documentation/*/*'} \
        --exclude="$source_package/"{'drivers/gpu/drm/amd/include/*','tools/testing/*'}
    local patch
    for patch in "$here"/patches/*.patch; do
        [[ -e $patch ]] || continue
        patch --directory "$work/source" --strip=1 --batch <"$patch" >>"$log"
    done
}

# Kconfig drops silently what it does not know or what a dependency forbids; this does not.
configure() {
    make -C "$work/source" KCONFIG_ALLCONFIG="$here/config.fragment" allnoconfig >>"$log" 2>&1
    local config=$work/source/.config line option refused=()
    while read -r line; do
        case $line in
        CONFIG_*) grep --quiet --line-regexp --fixed-strings "$line" "$config" || refused+=("$line") ;;
        '# CONFIG_'*' is not set')
            option=${line#'# '}
            ! grep --quiet "^${option%' is not set'}=" "$config" || refused+=("$line")
            ;;
        esac
    done <"$here/config.fragment"
    ((${#refused[@]} == 0)) && return
    say "Kconfig refused these lines of config.fragment:"
    printf '    %s\n' "${refused[@]}" >&2
    return 1
}

# Runs make in the background and tells every 10 seconds how far it is.
compile() {
    say "compiling, about four minutes on two cores; log in $log"
    make -C "$work/source" --jobs="$(nproc)" vmlinux \
        KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' KBUILD_BUILD_VERSION=1 \
        KBUILD_BUILD_USER=lockstep KBUILD_BUILD_HOST=lockstep >>"$log" 2>&1 {lock}>&- &
    maker=$!
    local lines seconds=0
    while kill -0 "$maker" 2>/dev/null; do
        sleep 1
        ((++seconds % 10)) && continue
        lines=$(wc --lines <"$log")
        say "$((lines < expected_lines ? lines * 100 / expected_lines : 99)) % after $seconds s"
    done
    wait "$maker"
}

keep() {
    mkdir "$work/kept"
    cp "$work/source/vmlinux" "$work/source/System.map" "$work/source/usr/gen_init_cpio" "$work/kept/"
    cp "$work/source/.config" "$work/kept/config"
    mv --no-target-directory "$work/kept" "$kernel"
    rm --force "$log"
}

clean_up() {
    local status=$?
    [[ -z $maker ]] || kill "$maker" 2>/dev/null || true
    rm --recursive --force "$work"
    if ((status != 0)) && [[ -s $log ]]; then
        grep --extended-regexp '\*\*\*|[Ee]rror' "$log" | head --lines=20 >&2 || tail --lines=20 "$log" >&2
        say "failed; the whole log is in $log"
    fi
}

name=linux-$(digest)
kernel=$cache/$name
log=$kernel.log
work=$kernel.building
maker=

if [[ ! -d $kernel ]]; then
    mkdir --parents "$cache"
    exec {lock}>"$kernel.lock"
    if ! flock --nonblock "$lock"; then
        say "another build of the same kernel is running; waiting for it"
        flock "$lock"
    fi
fi
if [[ ! -d $kernel ]]; then
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    # What a killed build left. Nobody else writes here: the lock is ours.
    rm --recursive --force "$work"
    mkdir "$work"
    : >"$log"
    unpack
    configure
    compile
    keep
fi
echo "$kernel"
