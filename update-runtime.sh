#!/usr/bin/env bash
# Sets up what the worker needs, or repairs and updates it. All options: ./update-runtime.sh --help
# The Python is PYTHON if that is set, else the first of a list that can make virtual environments.
set -u

script=$(readlink -f -- "${BASH_SOURCE[0]}" 2>/dev/null) || script=${BASH_SOURCE[0]}
here=$(cd -- "$(dirname -- "$script")" && pwd -P) || exit 1

is_of_use() {
    "$1" -I -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_of_use "$PYTHON" && printf '%s\n' "$PYTHON"
        return
    fi
    local name
    for name in python3.11 python3.12 python3.13 python3.10 python3 python; do
        if is_of_use "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

how_to_get_python() {
    local like=""
    # shellcheck source=/dev/null
    [ -r /etc/os-release ] && like=$(. /etc/os-release && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
    case " $like " in
        *" debian "* | *" ubuntu "*)
            echo "On Debian and Ubuntu: sudo apt install python3 python3-venv (if that is older than 3.10 or newer"
            echo "than 3.13: install python3.12 and python3.12-venv, on Ubuntu from the PPA deadsnakes)." ;;
        *" fedora "* | *" rhel "*) echo "On Fedora and its relatives: sudo dnf install python3.12" ;;
        *" arch "*) echo "On Arch Linux: install python312 from the AUR (the system's Python may be too new)." ;;
        *" suse "* | *" opensuse "*) echo "On openSUSE: sudo zypper install python312" ;;
        *) echo "Install Python 3.12 with its venv module, from your system's packages or with pyenv or uv." ;;
    esac
    echo "Any other place will do: PYTHON=/path/to/python3.12 ./update-runtime.sh"
}

if ! python=$(find_python); then
    if [ -n "${PYTHON:-}" ]; then
        echo "ERROR: PYTHON is $PYTHON, which is no Python 3.10 to 3.13 with the modules venv and ensurepip." >&2
    else
        echo "ERROR: No Python 3.10 to 3.13 with the modules venv and ensurepip was found." >&2
    fi
    how_to_get_python | sed 's/^/       /' >&2
    exit 1
fi

# Isolated, and from here whatever the current folder holds: it may have a folder "worker" of its own.
exec "$python" -I -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("worker.engine.install", run_name="__main__", alter_sys=True)' "$here" "$@"
