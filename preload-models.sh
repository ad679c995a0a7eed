#!/usr/bin/env bash
# Fetches the models of the settings beforehand; the worker does the same by itself while it runs.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh SCRIPT`
set -u

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1

exec bash "$here/horde-bridge.sh" models download "$@"
