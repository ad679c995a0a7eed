"""What the system is to start: as a unit of systemd, quoted as its manual wants it, or as a task of Windows. Pure."""

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from worker.scheduling.drain import DRAIN_LIMIT_S

#: Seconds from the request to stop until the system may kill: the worker's own drain, the engines' end, a margin.
STOP_LIMIT_S: Final = int(DRAIN_LIMIT_S) + 50
#: Seconds before a worker that ended by itself is started again; and starts in an hour after which that ends.
RESTART_S, STARTS_PER_HOUR = 30, 20
_TITLE: Final = "AI Horde worker"


@dataclass(frozen=True)
class Order:
    """A worker of one folder."""

    launcher: Path
    #: where bridgeData.yaml is
    folder: Path
    #: options of `run`
    arguments: tuple[str, ...] = ()
    #: variables that the launcher needs and the system does not know
    environment: tuple[tuple[str, str], ...] = ()
    #: the worker's name, where there is one for each of several workers
    name: str = ""
    #: when the machine starts, not at the owner's login
    at_boot: bool = False
    #: the account to run as, where the system starts it for somebody else
    user: str = ""

    @property
    def label(self) -> str:
        """The service's name, safe as that of a file."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-").lower()[:40]
        if self.name and not slug:  # a name of other letters alone
            slug = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"horde-bridge-{slug}" if slug else "horde-bridge"

    @property
    def title(self) -> str:
        """For people, on one line."""
        return " ".join(f"{_TITLE} {self.name}".split())


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


#: A task of the Windows Task Scheduler: elements and their order follow the schema
#: http://schemas.microsoft.com/windows/2004/02/mit/task, version 1.2.
_TASK = """<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{title}</Description>
    <URI>\\{label}</URI>
  </RegistrationInfo>
  <Triggers>
    {trigger}
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>{logon}</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>20</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{folder}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


def task_xml(order: Order, user: str) -> str:
    """The task of `user`, as domain and name. Priority 7 is below normal: the machine stays its owner's.

    A path is one element and needs no quotes there; arguments are quoted as programs on Windows read them.
    """
    trigger = (
        "<BootTrigger><Enabled>true</Enabled><Delay>PT30S</Delay></BootTrigger>"
        if order.at_boot
        else f"<LogonTrigger><Enabled>true</Enabled><UserId>{escape(user)}</UserId></LogonTrigger>"
    )
    return _TASK.format(
        title=escape(order.title),
        label=escape(order.label),
        trigger=trigger,
        user=escape(user),
        # At boot nobody has logged in: the system starts it for the user without his password.
        logon="S4U" if order.at_boot else "InteractiveToken",
        command=escape(f'"{order.launcher}"' if " " in str(order.launcher) else str(order.launcher)),
        arguments=escape(subprocess.list2cmdline(["run", *order.arguments])),
        folder=escape(str(order.folder)),
    )
