#!/bin/bash
# Builds the guest images, prints where they lie, and writes the same to target/images.env, which a shell
# reads with `set -a; . target/images.env; set +a`. Tests and the demo find the images by these variables.
set -euo pipefail

cd "$(dirname "$0")/.."

# KEY=VALUE lines become PREFIX_KEY='VALUE' lines: upper case, quoted for a shell.
export_lines() {
    local prefix=$1 key value
    while IFS='=' read -r key value; do
        key=${key^^}
        printf "%s_%s='%s'\n" "$prefix" "${key//-/_}" "${value//\'/\'\\\'\'}"
    done
}

# Each recipe's lines are kept first: in a pipe its failure would go unnoticed.
echo "building the bare-metal guests" >&2
bare=$(guest-images/bare/build.sh)
linux=$(guest-images/linux/build.sh)
stock=$(guest-images/stock/build.sh)

mkdir --parents target
{
    export_lines LOCKSTEP_LINUX <<<"$linux"
    export_lines LOCKSTEP_STOCK <<<"$stock"
    export_lines LOCKSTEP_BARE <<<"$bare"
    first=${bare%%$'\n'*}
    export_lines LOCKSTEP_BARE <<<"DIR=$(dirname "${first#*=}")"
} >target/images.env.new
mv target/images.env.new target/images.env
cat target/images.env
