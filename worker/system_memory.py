"""The memory this process may use: the machine's, or less where a control group (a container) has a limit.

Linux kills what exceeds the limit of its group however much the machine has free, and what psutil tells is the
machine's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path("/")
#: A file of a control group has a line or a few dozen; more is none of theirs.
_MAX_FILE_BYTES = 65536


@dataclass(frozen=True)
class SystemMemory:
    """In bytes. `available` is what can be had without swapping."""

    total: int
    available: int


def system_memory(root: Path = ROOT) -> SystemMemory:
    """The memory of the machine or of the tightest control group around this process. Never raises for the latter."""
    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    for limit, used in _limits(root):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return SystemMemory(total, available)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each group around this process that has a limit."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _groups(root / "sys/fs/cgroup", path, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _groups(root / "sys/fs/cgroup/memory", path, names)


def _groups(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[tuple[int, int]]:
    limit_name, used_name, reclaimable = names
    parts = [part for part in path.split("/") if part not in ("", "..")]
    # A container often sees the group of the host named here and its own at the mount; what is not there has no limit.
    for depth in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:depth])
        limit = _text(folder / limit_name).strip()
        used = _text(folder / used_name).strip()
        if limit.isdecimal() and used.isdecimal():
            found = re.search(rf"^{reclaimable} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
            # Pages of files that were not used lately go when memory is asked for; psutil counts them as available too.
            yield int(limit), int(used) - (int(found[1]) if found else 0)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError:
        return ""
