#!/bin/sh
# Starts the worker in a container: as an ordinary user, with the settings of the environment, named after the host.
#   PUID, PGID   user and group to run as where the container starts as root (default 10001)
#   AIWORKER_*   every key of bridgeData.yaml; without a bridgeData.yaml in /state they are all there is
set -eu

if [ "$(id -u)" = 0 ]; then
    uid=${PUID:-10001} gid=${PGID:-10001}
    case $uid$gid in *[!0-9]*) echo "ERROR: PUID and PGID are numbers, not \"$uid\" and \"$gid\"." >&2; exit 2 ;; esac
    if [ "$uid" = 0 ]; then
        echo "ERROR: The worker does not run as root. Set PUID to the user who owns the volumes." >&2
        exit 2
    fi
    # The folder alone: below it everything is the worker's own, and models may be many and on a slow disk.
    chown "$uid:$gid" /state 2>/dev/null || true
    # The groups that the container was given, such as `render` for AMD's cards, stay.
    exec setpriv --reuid "$uid" --regid "$gid" --keep-groups -- "$0" "$@"
fi

if ! [ -w /state ]; then
    echo "ERROR: /state can't be written by user $(id -u), group $(id -g)." >&2
    echo "       Give the volume to that user (chown), or start as root with PUID and PGID set to its owner." >&2
    exit 1
fi

host=$(uname -n)
name=${AIWORKER_DREAMER_NAME:-$host}
# Names are unique on the Horde: replicas that share their settings tell themselves apart by {hostname}.
case $name in
    *"{hostname}"*) name=${name%%"{hostname}"*}$host${name#*"{hostname}"} ;;
esac
export AIWORKER_DREAMER_NAME="$name"

if [ "${1:-run}" = run ] && [ ! -e /state/bridgeData.yaml ]; then
    [ $# -eq 0 ] || shift
    set -- run -e "$@"
fi
exec "${HORDE_BRIDGE_PYTHON:-/opt/horde-bridge/runtime/worker/bin/python}" -I -m worker.cli "$@"
