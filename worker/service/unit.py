"""A unit of systemd, as its manual wants it quoted. Pure."""

from typing import Final

from worker.service.order import RESTART_S, STARTS_PER_HOUR, STOP_LIMIT_S, Order

#: The program of a unit may have no quotes, backslashes or dollars in its path; an argument of one may. Archives that
#: were unpacked by some programs have launchers that may not be executed, but read.
_HAND_OVER: Final = '[ ! -x "$0" ] || exec "$0" "$@"; exec bash "$0" "$@"'


def unit_text(order: Order) -> str:
    """The unit file. Raises ValueError for a path with a line break, which no unit can hold."""
    words = ("/bin/sh", "-c", _HAND_OVER, str(order.launcher), "run", *order.arguments)
    command = " ".join(map(quoted, words))
    lines = [
        "# Written by `horde-bridge service install`; changes are lost when it is run again.",
        "[Unit]",
        f"Description={_plain(order.title)}",
        "Documentation=https://github.com/horde-bridge/horde-bridge",
        "After=network-online.target",
        "StartLimitIntervalSec=3600",
        f"StartLimitBurst={STARTS_PER_HOUR}",
        "",
        "[Service]",
        "Type=exec",
        f"WorkingDirectory={_plain(str(order.folder))}",
        f"ExecStart={command}",
        *(f"Environment={quoted(f'{name}={value}', dollars=False)}" for name, value in order.environment),
        *([f"User={_plain(order.user)}"] if order.user else []),
        "# Read bridgeData.yaml again: systemctl reload.",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        f"RestartSec={RESTART_S}",
        "# Wrong usage is not mended by another try.",
        "RestartPreventExitStatus=2",
        "# The worker alone is told to stop; it finishes its jobs and ends its engines itself.",
        "KillMode=mixed",
        "KillSignal=SIGTERM",
        f"TimeoutStopSec={STOP_LIMIT_S}",
        "# The set-up after an update fetches gigabytes.",
        "TimeoutStartSec=infinity",
        "StandardOutput=journal",
        "StandardError=journal",
        f"SyslogIdentifier={order.label}",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if order.user else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"


def quoted(text: str, *, dollars: bool = True) -> str:
    """One word of a command line: no blank splits it, no specifier (%h) or variable ($HOME) is put in."""
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped.replace("$", "$$") if dollars else escaped}"'


def _plain(text: str) -> str:
    """A text that stands unquoted: only the percent sign means something there."""
    if any(character in text for character in "\r\n\0"):
        raise ValueError("it has a line break")
    return text.replace("%", "%%")
