#!/usr/bin/env bash
# update-runtime.sh for AMD cards, whether or not one is found now.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh SCRIPT`
script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
exec bash "$(dirname -- "$script")/update-runtime.sh" --rocm "$@"
