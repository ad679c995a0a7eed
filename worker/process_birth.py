"""What tells a process from a later one with its pid, however the clock is set meanwhile.

Linux tells the start of a process by the time since boot. The date that is made of it moves when the clock is set, as
at the first contact with a time server, or when WSL has slept.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")
#: Tolerance between two readings of the same date, in seconds.
DATE_TOLERANCE_S = 2.0
#: Where the start stands in /proc/PID/stat, counted behind the program's name, which may contain blanks and brackets.
_START_FIELD = 19


@dataclass(frozen=True)
class Birth:
    """The start of one process."""

    #: seconds since 1970, by the clock of that moment
    date: float
    #: which boot, and how long after it; empty where the system tells no such thing
    after_boot: str = ""

    @classmethod
    def of(cls, pid: int) -> "Birth":
        """Raises psutil.Error."""
        return cls(psutil.Process(pid).create_time(), _after_boot(pid))

    def is_of(self, pid: int) -> bool:
        """Whether the process with this pid is the one. Raises psutil.Error."""
        now = Birth.of(pid)
        if self.after_boot and now.after_boot:
            return self.after_boot == now.after_boot
        return abs(self.date - now.date) <= DATE_TOLERANCE_S


def _after_boot(pid: int) -> str:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        return f"{boot} {stat.rpartition(')')[2].split()[_START_FIELD]}"
    except (OSError, ValueError, IndexError):
        return ""
