#!/usr/bin/env bash
# Starts the worker; sets it up first if anything is missing or outdated. Options: ./horde-bridge.sh --help
set -u

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1
runtime=${AIWORKER_RUNTIME_DIR:-$here/runtime}
python=${runtime/#\~/${HOME:-}}/worker/bin/python

is_complete() {
    # The code that lies here, since an environment in a copied folder still knows the one it was copied from.
    [ -x "$python" ] && "$python" -I -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("worker.engine.install", run_name="__main__", alter_sys=True)' "$here" --check >/dev/null 2>&1
}

# On stderr, since stdout may be read by a program (demo --json).
is_complete || "$here/update-runtime.sh" >&2 || exit

# In the owner's folder, where bridgeData.yaml is; exec, so that signals reach the worker itself.
exec "$python" -I -m worker.cli "$@"
