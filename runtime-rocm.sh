#!/usr/bin/env bash
# runtime.sh for AMD cards, whether or not one is found now.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh SCRIPT`
set -u

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1

export MIOPEN_FIND_MODE=${MIOPEN_FIND_MODE:-FAST} HORDE_BRIDGE_ACCELERATOR=rocm
exec bash "$here/runtime.sh" "$@"
