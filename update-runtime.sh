#!/usr/bin/env bash
# Sets up what the worker needs, or repairs and updates it. All options: ./update-runtime.sh --help
# The Python is PYTHON if that is set, else the first of a list, else one that is fetched into the runtime folder.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh SCRIPT`
set -u

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1
if ! pwd -P >/dev/null 2>&1; then
    echo "ERROR: The folder that this was started in is gone. Change into one that is there (cd), then try again." >&2
    exit 1
fi
if [ ! -e "$here/worker/engine/install/__main__.py" ]; then
    echo "ERROR: This script is of no use alone: $here lacks the folder worker beside it." >&2
    echo "       Clone the repository, or unpack the whole archive, and start it there." >&2
    exit 1
fi
runtime=${AIWORKER_RUNTIME_DIR:-$here/runtime}
runtime=${runtime/#\~/${HOME:-}}
case $runtime in /*) ;; *) runtime=$PWD/$runtime ;; esac
managed=3.11
# Messages name the commands as they were typed: worker/as_typed.py.
export HORDE_BRIDGE_LAUNCHER=${HORDE_BRIDGE_LAUNCHER:-horde-bridge.sh}

# Packages are built for CPython with its lock; pyenv leaves modules out whose libraries were not there to build with.
is_of_use() {
    "$1" -I -c 'import sys, bz2, ctypes, lzma, sqlite3, ssl, sysconfig; sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32 and sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")))' >/dev/null 2>&1 || return
    # torch-directml has no build for 3.13.
    [ -z "${directml:-}" ] || "$1" -I -c 'import sys; sys.exit(sys.version_info[:2] > (3, 12))' >/dev/null 2>&1
}

find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3.10 python3 python "$runtime"/python/cpython-*/bin/python3; do
        if is_of_use "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

# A Python of the worker's own, in the runtime folder and gone with it; uv knows the sha256 of each.
fetch_python() {
    local uv name mirror=${AIWORKER_WHEELS:+$AIWORKER_WHEELS/python}
    if [ -e "$runtime" ] && [ ! -e "$runtime/.lock" ] && [ "$runtime" != "$here/runtime" ] && [ -n "$(ls -A -- "$runtime")" ]; then
        echo "ERROR: $runtime is not empty and holds no runtime of the worker." >&2
        echo "       Set AIWORKER_RUNTIME_DIR to an empty or new folder." >&2
        return 1
    fi
    mkdir -p -- "$runtime" && touch -- "$runtime/.lock" || return 1
    echo "There is no Python 3.10 to 3.13 here: fetching Python $managed into $runtime (35 MB) …" >&2
    uv=$(bash "$here/worker/engine/install/fetch-uv.sh" "$runtime") || return 1
    if [ -n "$mirror" ] && [ -d "$mirror" ]; then
        export UV_PYTHON_INSTALL_MIRROR="file://$mirror"
    fi
    # Of your settings for uv only the way to the network counts; UV_PYTHON_PREFERENCE and the like would forbid this.
    for name in $(compgen -A variable UV_); do
        case $name in
            UV_CACHE_DIR | UV_HTTP_* | UV_OFFLINE | UV_PYTHON_INSTALL_MIRROR | UV_PYTHON_DOWNLOADS_JSON_URL | UV_ASTRAL_MIRROR_URL)
                [ -n "${!name}" ] || unset "$name" ;;
            *) unset "$name" ;;
        esac
    done
    export UV_PYTHON_INSTALL_DIR=$runtime/python UV_CACHE_DIR=${UV_CACHE_DIR:-$runtime/cache} UV_PYTHON_INSTALL_BIN=0
    if ! (cd -- "$runtime" && "$uv" --no-config --system-certs python install --managed-python "$managed" >&2); then
        echo "ERROR: Python $managed could not be fetched; the lines above say why." >&2
        echo "       The network must let through https://github.com, or set UV_PYTHON_INSTALL_MIRROR to a mirror of" >&2
        echo "       https://github.com/astral-sh/python-build-standalone/releases/download." >&2
        return 1
    fi
    (cd -- "$runtime" && "$uv" --no-config python find --managed-python "$managed")
}

how_to_get_python() {
    local like=""
    # shellcheck source=/dev/null
    [ -r /etc/os-release ] && like=$(. /etc/os-release && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
    case " $like " in
        *" debian "* | *" ubuntu "*)
            echo "Or install one yourself. On Debian and Ubuntu: sudo apt install python3 (if that is older than 3.10 or"
            echo "newer than 3.13: python3.12, on Ubuntu from the PPA deadsnakes)." ;;
        *" fedora "* | *" rhel "*) echo "Or install one yourself. On Fedora and its relatives: sudo dnf install python3.12" ;;
        *" arch "*) echo "Or install one yourself. On Arch Linux: python312 from the AUR." ;;
        *" suse "* | *" opensuse "*) echo "Or install one yourself. On openSUSE: sudo zypper install python312" ;;
        *) echo "Or install Python 3.12 yourself, from your system's packages or from https://python.org." ;;
    esac
    echo "Any place will do: PYTHON=/path/to/python3.12 ./update-runtime.sh"
}

for argument; do
    case $argument in
        --check | -h | --help) only_asked=yes ;;
        --directml) directml=yes ;;
    esac
done
if [ -n "${PYTHON:-}" ]; then
    python=$PYTHON
    if ! is_of_use "$python"; then
        echo "ERROR: PYTHON is $PYTHON, which is no complete 64-bit CPython 3.10 to 3.13 (with bz2, ctypes, lzma, sqlite3, ssl)." >&2
        how_to_get_python | sed 's/^/       /' >&2
        exit 1
    fi
elif ! python=$(find_python); then
    if [ -n "${only_asked:-}" ]; then
        echo "worker: not there yet; there is no Python 3.10 to 3.13, and update-runtime will fetch one."
        exit 1
    fi
    if ! python=$(fetch_python); then
        how_to_get_python | sed 's/^/       /' >&2
        exit 1
    fi
fi

# Isolated, and from here whatever the current folder holds: it may have a folder "worker" of its own.
exec "$python" -I -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("worker.engine.install", run_name="__main__", alter_sys=True)' "$here" "$@"
