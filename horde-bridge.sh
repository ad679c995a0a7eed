#!/usr/bin/env bash
# Starts the worker; sets it up first if anything is missing or outdated. Options: ./horde-bridge.sh --help
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh SCRIPT`
set -u

# Messages name the commands as they were typed: worker/as_typed.py.
export HORDE_BRIDGE_LAUNCHER=${HORDE_BRIDGE_LAUNCHER:-horde-bridge.sh}

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1
if ! pwd -P >/dev/null 2>&1; then
    echo "ERROR: The folder that this was started in is gone. Change into one that is there (cd), then try again." >&2
    exit 1
fi
runtime=${AIWORKER_RUNTIME_DIR:-$here/runtime}
# Set by the launcher for a certain kind of card.
accelerator=${HORDE_BRIDGE_ACCELERATOR:+--$HORDE_BRIDGE_ACCELERATOR}
python=${runtime/#\~/${HOME:-}}/worker/bin/python

# A newer version that waits, or one on trial: parts of it may be half in place, so a copy outside of them sees to it.
if [ -e "$here/.updates/pending" ] && [ -x "$python" ]; then
    # A worker is watched from there as well, until its version serves.
    case ${1:-run} in
        run | -*)
            if [ -e "$here/.updates/code/worker/update/trial.py" ] && [ "${HORDE_BRIDGE_WATCHED_BY:-}" != "$PPID" ]; then
                exec "$python" -I -c 'import sys
sys.path.insert(0, sys.argv[1] + "/.updates/code")
from worker.update.trial import main
sys.exit(main())' "$here" "$@"
            fi ;;
    esac
    "$python" -I -c 'import sys
sys.path.insert(0, sys.argv[1] + "/.updates/code")
from worker.update.switch import main
sys.exit(main())' "$here" "$@" || exit
fi

if [ ! -e "$here/worker/engine/install/__main__.py" ]; then
    echo "ERROR: This script is of no use alone: $here lacks the folder worker beside it." >&2
    echo "       Clone the repository, or unpack the whole archive, and start it there." >&2
    exit 1
fi

is_complete() {
    # The code in this folder, since an environment in a copied folder still knows the one it was copied from.
    [ -x "$python" ] && "$python" -I -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("worker.engine.install", run_name="__main__", alter_sys=True)' "$here" --check ${accelerator:+"$accelerator"} >/dev/null 2>&1
}

is_for_help() {
    local argument
    [ "${1:-}" = help ] && return 0
    for argument; do
        case $argument in -h | --help) return 0 ;; esac
    done
    return 1
}

# Whatever ends this script ends the set-up too: a signal is passed on, and the set-up watches its parent.
set_up() {
    local child code
    # On stderr, since stdout may be read by a program (demo --json).
    AIWORKER_LAUNCHER_PID=$$ bash "$here/update-runtime.sh" ${accelerator:+"$accelerator"} >&2 &
    child=$!
    trap 'kill -TERM "$child" 2>/dev/null' INT TERM HUP
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    trap - INT TERM HUP
    return "$code"
}

if ! is_complete; then
    # Help and version need no set-up.
    if is_for_help "$@"; then
        cat -- "$here/worker/usage.txt"
        exit
    elif [ "${1:-}" = --version ]; then
        sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/worker/__init__.py"
        exit
    fi
    set_up
    code=$?
    # 3: a worker runs with what would be replaced. What steers that one does without the newer packages.
    case $code-${1:-run} in
        0-*) ;;
        3-run | 3-demo | 3-benchmark | 3--*) exit "$code" ;;
        3-*) ;;
        *) exit "$code" ;;
    esac
fi

# In the owner's folder, where bridgeData.yaml is; exec, so that signals reach the worker itself.
exec "$python" -I -m worker.cli "$@"
