#!/bin/bash
# Runs a command that finds the guest images in its environment: scripts/with-images.sh COMMAND…
set -euo pipefail

env=$(dirname "$(readlink -f "$0")")/../target/images.env
if [[ ! -r $env ]]; then
    echo "The guest images are not built. Run: make images" >&2
    exit 1
fi
set -a
# shellcheck source=/dev/null
. "$env"
set +a
exec "$@"
