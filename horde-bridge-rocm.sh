#!/usr/bin/env bash
# horde-bridge.sh for AMD cards, whether or not one is found now.
set -u

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1

"$here/update-runtime-rocm.sh" --check >/dev/null 2>&1 || "$here/update-runtime-rocm.sh" >&2 || exit

# MIOpen's thorough search for kernels takes minutes for every new picture size.
export MIOPEN_FIND_MODE=${MIOPEN_FIND_MODE:-FAST}
exec "$here/horde-bridge.sh" "$@"
