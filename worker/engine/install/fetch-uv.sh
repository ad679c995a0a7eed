#!/usr/bin/env bash
# Puts the pinned uv into FOLDER/uv-VERSION and prints its path: fetch-uv.sh FOLDER
# Needs a shell, coreutils, gzip, and one of curl, wget, Python. AIWORKER_WHEELS names a folder to take the wheel from,
# PIP_INDEX_URL (or UV_DEFAULT_INDEX) a package index other than PyPI.
set -u

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P) || exit 1
folder=${1:?}
attempts=3

fail() {
    printf 'ERROR: %s\n' "$1" >&2
    shift
    printf '       %s\n' "$@" >&2
    exit 1
}

machine=$(uname -m)
case $(uname -s)-$machine in
    Linux-x86_64 | Linux-amd64) system=linux-x86_64 ;;
    Linux-aarch64 | Linux-arm64) system=linux-aarch64 ;;
    Darwin-arm64) system=macos-arm64 ;;
    Darwin-x86_64) system=macos-x86_64 ;;
    *) fail "There is no build of torch for this machine: $(uname -s) on $machine." "The worker needs 64-bit Linux, Windows or macOS." ;;
esac
case $system in
    linux-*)
        libc=gnu
        for loader in /lib/ld-musl-*; do [ -e "$loader" ] && [ ! -e /lib64/ld-linux-x86-64.so.2 ] && libc=musl; done
        system=$system-$libc ;;
esac

version=
while read -r name version address sha256 size begin length end; do
    end=${end%$'\r'} # of a folder that came by way of Windows
    [ "$name" = "$system" ] && break
    version=
done <"$here/../lock/uv.txt"
[ -n "$version" ] || fail "worker/engine/lock/uv.txt does not name $system." "Get the whole folder again."

target=$folder/uv-$version/uv
# One that a power failure or a virus scanner has left empty is fetched anew.
if [ -s "$target" ] && "$target" --version >/dev/null 2>&1; then
    printf '%s\n' "$target"
    exit
fi
mkdir -p -- "${target%/*}" || fail "$folder can't be written." "Set AIWORKER_RUNTIME_DIR to a folder of yours."
wheel=${target%/*}/${address##*/}.part

sum_of() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -c 1-64
}

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python; do
        if [ -n "$name" ] && "$name" -I -c 'import urllib.request, ssl' >/dev/null 2>&1; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

# A list of certificates counts for curl as it does for everything else here.
[ -n "${SSL_CERT_FILE:-}" ] && export CURL_CA_BUNDLE="${CURL_CA_BUNDLE:-$SSL_CERT_FILE}"

python=$(find_python)
tools=()
command -v curl >/dev/null && tools+=(curl)
command -v wget >/dev/null && tools+=(wget)
[ -n "$python" ] && tools+=(python)

# Goes on where an interrupted download ended. What a proxy or a certificate needs is read by each from its own variables.
# Each attempt takes another tool: the curl of snap may not write everywhere, and one of conda may lack its libraries.
download() {
    local silent=(--silent --show-error) code
    [ ${#tools[@]} -gt 0 ] || fail "There is neither curl nor wget to download with." \
        "Install one of them (Debian, Ubuntu: sudo apt install curl ca-certificates) and try again."
    [ -t 2 ] && silent=(--progress-bar)
    case ${tools[$(((attempt - 1) % ${#tools[@]}))]} in
        curl)
            curl --fail --location "${silent[@]}" --connect-timeout 20 --speed-limit 1000 --speed-time 60 --retry 2 \
                --continue-at - --output "$2" -- "$1" >&2
            code=$?
            [ "$code" = 33 ] && rm -f -- "$2" # the server can't go on in the middle of a file
            return "$code" ;;
        wget) wget --quiet --timeout=60 --tries=3 --continue --output-document="$2" -- "$1" >&2 ;;
        python)
            "$python" -I -c '
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(source, file)' "$1" "$2" 2>&1 | tail -n 1 >&2
            return "${PIPESTATUS[0]}" ;;
    esac
}

# Where the owner's own index has the file; a page of links, relative or not.
address_on_index() {
    local index=${1%/} page=$wheel.page link
    download "$index/uv/" "$page" || return
    link=$(tr '>' '\n' <"$page" | sed -n "s|.*href=[\"']\([^\"'#]*${address##*/}\).*|\1|p" | head -n 1)
    rm -f -- "$page"
    case $link in
        '') return 1 ;;
        *://*) printf '%s\n' "$link" ;;
        /*) printf '%s%s\n' "$(printf '%s' "$index" | sed 's|\(://[^/]*\).*|\1|')" "$link" ;;
        *) printf '%s/uv/%s\n' "$index" "$link" ;;
    esac
}

index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-}}}
get_wheel() {
    local url=https://files.pythonhosted.org/packages/$address own=${AIWORKER_WHEELS:+$AIWORKER_WHEELS/${address##*/}}
    if [ -n "$own" ] && [ -f "$own" ]; then
        cp -- "$own" "$wheel"
        return
    fi
    case $index in
        '' | *://pypi.org/*) ;;
        file://* | http://* | https://*) url=$(address_on_index "$index") || url=https://files.pythonhosted.org/packages/$address ;;
    esac
    download "$url" "$wheel"
}

is_whole() { [ -f "$wheel" ] && [ "$(sum_of "$wheel")" = "$sha256" ]; }

printf 'Fetching uv %s, which installs everything else (%s MB) …\n' "$version" $((size / 1000000)) >&2
for ((attempt = 1; attempt <= attempts; attempt++)); do
    is_whole && break
    # A download that is as long as the whole and not it can't be gone on with.
    [ -f "$wheel" ] && [ "$(wc -c <"$wheel")" -ge "$size" ] && rm -f -- "$wheel"
    get_wheel
    code=$?
done
if ! is_whole; then
    if [ -f "$wheel" ] && [ "$(wc -c <"$wheel")" -ge "$size" ]; then
        rm -f -- "$wheel"
        fail "What was downloaded is not uv $version: its sha256 is another one. It was deleted." \
            "A proxy or mirror may have changed it; try another network."
    fi
    if ! { printf '%1000000s' '' >"$wheel.try"; } 2>/dev/null; then
        rm -f -- "$wheel.try"
        fail "${target%/*} can't be written." "Make room on its disk, or set AIWORKER_RUNTIME_DIR to a folder on another."
    fi
    rm -f -- "$wheel.try"
    case $(command -v curl) in
        /snap/*) [ ${#tools[@]} = 1 ] && fail "The curl of snap can't write to ${target%/*}." \
            "Install another: sudo snap remove curl && sudo apt install curl" ;;
    esac
    fail "uv $version could not be downloaded (exit ${code:-0}; the lines above say more)." \
        "The network must let through https://pypi.org and https://files.pythonhosted.org." \
        "A proxy: export HTTPS_PROXY=http://HOST:PORT   a mirror: export PIP_INDEX_URL=https://HOST/simple" \
        "a network that inspects TLS: export SSL_CERT_FILE=CERTIFICATES.pem CURL_CA_BUNDLE=CERTIFICATES.pem" \
        "no network at all: see \"Without a network\" in docs/update.md."
fi

# The packed program between the head and the end of a .gz file is one.
{
    printf '\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03'
    tail -c "+$((begin + 1))" -- "$wheel" | head -c "$length"
    printf "$(printf '%s' "$end" | sed 's/../\\x&/g')"
} | gzip -dc >"$target.$$" && chmod +x "$target.$$" && mv -f -- "$target.$$" "$target" \
    || { rm -f -- "$target.$$"; fail "$target can't be written." "Check the free disk and the rights to $folder."; }
rm -f -- "$wheel"
said=$("$target" --version 2>&1) && {
    printf '%s\n' "$target"
    exit
}
code=$?
rm -f -- "$target"
said=${said##*"$target: "} # what bash begins with
case $code in
    126) remedy=("The disk of $folder may forbid programs (mount option noexec): set AIWORKER_RUNTIME_DIR to a folder on"
        "another disk; or a virus scanner holds it: exempt the folder.") ;;
    127) remedy=("This system lacks what 64-bit programs for Linux are started by. On NixOS: programs.nix-ld.enable = true."
        "If a virus scanner took the program away: exempt the folder.") ;;
    *) remedy=("It ended with exit code $code.") ;;
esac
fail "$target can't be run: ${said//$'\n'/ }" "${remedy[@]}"
