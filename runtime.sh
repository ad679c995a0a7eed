#!/usr/bin/env bash
# Runs a command in the worker's Python environment, which is set up first if need be: ./runtime.sh python -V
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh SCRIPT`
set -u

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1
runtime=${AIWORKER_RUNTIME_DIR:-$here/runtime}
runtime=${runtime/#\~/${HOME:-}}
case $runtime in /*) ;; *) runtime=$PWD/$runtime ;; esac

if [ $# -eq 0 ]; then
    echo "Usage: ${0##*/} COMMAND [ARGUMENTS], for example: ${0##*/} python -V" >&2
    exit 2
fi
# Set by the launcher for a certain kind of card.
accelerator=${HORDE_BRIDGE_ACCELERATOR:+--$HORDE_BRIDGE_ACCELERATOR}
if [ ! -x "$runtime/worker/bin/python" ]; then
    bash "$here/update-runtime.sh" ${accelerator:+"$accelerator"} >&2 || exit
fi
unset PYTHONHOME PYTHONPATH
export VIRTUAL_ENV=$runtime/worker PATH=$runtime/worker/bin:$PATH
# By its place: a folder with a colon in its name can be in no PATH.
[ -x "$runtime/worker/bin/$1" ] && set -- "$runtime/worker/bin/$1" "${@:2}"
exec "$@"
