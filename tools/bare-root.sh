#!/usr/bin/env bash
# Whether one line is enough: sets up this folder's commit in a bare Debian without Python, git and compilers, in a
# chroot, and serves a demo job there. Needs root and mmdebstrap (Debian: apt-get install mmdebstrap).
#   tools/bare-root.sh [FOLDER]       FOLDER is kept for a closer look; without it everything is removed at the end
# Where GitHub can't be reached, the Python that would be fetched from there is stood in for by this machine's own
# Python 3.11 in an archive of the same form, named by a list of downloads like uv's own.
set -u -o pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 1
kept=${1:-}
root=${kept:-$(mktemp -d /tmp/bare-root.XXXXXX)}
mounted=()

leave() {
    local at
    for ((at = ${#mounted[@]} - 1; at >= 0; at--)); do umount -l -- "${mounted[at]}"; done
    # Never while anything of this machine is still there: what is mounted would be deleted.
    if [ -z "$kept" ] && ! grep -qF " $root/" /proc/mounts; then rm -rf --one-file-system -- "$root"; fi
}
trap leave EXIT

bind() {
    [ -e "$1" ] || return 0
    mkdir -p -- "$root$1"
    mount --bind -- "$1" "$root$1" && mounted+=("$root$1")
}

for tool in mmdebstrap mount chroot; do
    command -v "$tool" >/dev/null || { echo "ERROR: $tool is not here. Install it (Debian: apt-get install mmdebstrap)." >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "ERROR: only root can make a chroot. Start this with sudo." >&2; exit 1; }

# Something to download with comes with every desktop, and a list of certificates; nothing else does here.
if [ ! -e "$root/bin/bash" ]; then
    echo "== a bare Debian in $root" >&2
    mmdebstrap --variant=minbase --include=curl,ca-certificates bookworm "$root" || exit
fi
for absent in python3 git gcc unzip wget; do
    ! chroot "$root" bash -c "command -v $absent" >/dev/null || { echo "ERROR: the root is not bare: it has $absent." >&2; exit 1; }
done
mount -t proc proc "$root/proc" && mounted+=("$root/proc")
bind /dev
# Where this machine has them: its own packages, certificates, and what pip was told of these.
for place in /opt/wheels /opt/pypi /opt/pypi-more /etc/xdg/pip /etc/ssl/certs /usr/local/share/ca-certificates; do bind "$place"; done
cp -L -- /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null

place="/home/fox/my wörker"
mkdir -p "$root$place" && git -C "$here" archive HEAD | tar -x -C "$root$place" || exit

environment=("HOME=/home/fox" "PATH=/usr/bin:/bin" "LANG=C.UTF-8")
for name in HTTPS_PROXY https_proxy PIP_FIND_LINKS PIP_INDEX_URL SSL_CERT_FILE CURL_CA_BUNDLE; do
    [ -n "${!name:-}" ] && environment+=("$name=${!name}")
done

if ! curl --silent --head --max-time 10 --output /dev/null https://github.com; then
    echo "== GitHub can't be reached: this machine's Python 3.11 stands in for the one that would come from there" >&2
    python=$(python3.11 -c 'import sys; print(sys.base_prefix)') || exit
    version=$("$python/bin/python3.11" -c 'import platform; print(platform.python_version())') || exit
    archive=$root/stand-in.tar.gz
    # The libraries that such an archive carries within itself.
    mkdir -p "$root/usr/local/lib"
    find "$python/bin/python3.11" "$python/lib/python3.11/lib-dynload" -type f -exec ldd {} + 2>/dev/null \
        | sed -n 's|.*=> \(/[^ ]*\) .*|\1|p' | sort -u | while read -r library; do
        [ -e "$root$library" ] || cp -L -- "$library" "$root/usr/local/lib/"
    done
    chroot "$root" ldconfig
    tar -C "$python" --exclude=__pycache__ --exclude='site-packages/*' --exclude='test/*' --transform 's|^\.|python|' \
        -czf "$archive" ./bin/python3.11 ./bin/python3 ./lib/python3.11 ./include || exit
    cat >"$root/downloads.json" <<JSON
{"cpython-$version-linux-x86_64-gnu": {"name": "cpython", "arch": {"family": "x86_64", "variant": null}, "os": "linux",
 "libc": "gnu", "major": 3, "minor": 11, "patch": ${version##*.}, "prerelease": "", "url": "file:///stand-in.tar.gz",
 "sha256": "$(sha256sum <"$archive" | cut -c 1-64)", "variant": null, "build": "20260101"}}
JSON
    environment+=("UV_PYTHON_DOWNLOADS_JSON_URL=/downloads.json")
fi

echo "== one line" >&2
began=$SECONDS
chroot "$root" env -i "${environment[@]}" bash -c 'cd "$1" && ./horde-bridge.sh demo --jobs 1' bash "$place"
code=$?
echo "== exit $code after $((SECONDS - began)) s; the folder takes $(du -sm "$root$place" | cut -f 1) MB" >&2
if [ -e "$root/home/fox/.cache" ] || [ -e "$root/home/fox/.local" ]; then
    echo "ERROR: something was left outside of the folder: $(ls -A "$root/home/fox")" >&2
    code=1
fi
exit "$code"
