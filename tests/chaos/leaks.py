"""What a worker must not leave behind, counted before and after."""

import asyncio
import ctypes
import gc
import socket
import statistics
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

#: What needs a moment to go after the worker has ended: connections that the other end closes, threads on their way.
SETTLING_S = 15.0
#: Threads of asyncio's pool stay, and there are never more than it has places.
POOL_THREADS = ("asyncio_", "ThreadPoolExecutor")
#: How much the middle of the last third of the readings may lie above that of the first, in bytes.
GROWTH_BYTES = 24 * 1024**2
#: Fewer readings than this say nothing of a trend.
LEAST_READINGS = 30
#: Taken for the size of an object of Python's own allocator, whose blocks have 16 to 512 bytes.
SMALL_OBJECT_BYTES = 100


@dataclass(frozen=True)
class Holdings:
    """What this process has at one moment."""

    children: frozenset[int]
    files: frozenset[str]
    #: local addresses of sockets, without those of other parts of this process that come and go
    sockets: frozenset[str]
    threads: frozenset[str]
    tasks: frozenset[str]

    @classmethod
    def now(cls) -> "Holdings":
        gc.collect()
        process = psutil.Process()
        return cls(
            children=frozenset(child.pid for child in process.children(recursive=True) if _lives(child)),
            files=frozenset(file.path for file in process.open_files()),
            sockets=frozenset(
                f"{each.type.name} {each.laddr} {each.status}" for each in process.net_connections(kind="inet")
            ),
            threads=frozenset(
                f"{thread.name} ({thread.ident})"
                for thread in threading.enumerate()
                if not thread.name.startswith(POOL_THREADS)
            ),
            tasks=frozenset(str(task.get_coro()) for task in asyncio.all_tasks()),
        )

    def beyond(self, before: "Holdings") -> list[str]:
        """What is here and was not before, each in a few words."""
        return [
            *(f"process {pid}" for pid in sorted(self.children - before.children)),
            *(f"file {path}" for path in sorted(self.files - before.files)),
            *(f"socket {address}" for address in sorted(self.sockets - before.sockets)),
            *(f"thread {name}" for name in sorted(self.threads - before.threads)),
            *(f"task {name}" for name in sorted(self.tasks - before.tasks)),
        ]


async def leaks_since(before: Holdings) -> list[str]:
    """What is still there of what came since; it gets a moment to go."""
    deadline = asyncio.get_running_loop().time() + SETTLING_S
    while (left := Holdings.now().beyond(before)) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.2)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def listening(ports: set[int]) -> list[str]:
    """Those of the ports that somebody still answers on."""
    found = []
    for port in sorted(ports):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(f"port {port}")
    return found


def remains(folder: Path) -> list[str]:
    """Files that lie where nothing should."""
    return [f"temporary file {path}" for path in sorted(folder.rglob("*")) if path.is_file()]


@dataclass
class Readings:
    """A quantity over time."""

    read: Callable[[], int]
    values: list[int] = field(default_factory=list)

    async def take(self, every_s: float) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            self.values.append(self.read())

    @property
    def growth(self) -> int:
        """From the middle of the second third to that of the last: the first is when everything is new."""
        third = len(self.values) // 3
        if len(self.values) < LEAST_READINGS:
            return 0
        return int(statistics.median(self.values[-third:]) - statistics.median(self.values[third : 2 * third]))


class _Mallinfo2(ctypes.Structure):
    """What glibc tells of all arenas, in bytes but for the counts."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def bytes_in_use() -> int:
    """Memory that something holds; the resident memory where the C library does not tell (glibc does since 2.33).

    Resident memory says little: malloc keeps freed pages for each thread, and after pictures that one thread after
    another decodes it swings by more than a leak has.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return int(psutil.Process().memory_info().rss)
    library.mallinfo2.restype = _Mallinfo2
    told = library.mallinfo2()
    # Small objects are Python's own allocator's, which does not ask malloc.
    return int(told.uordblks + told.hblkhd) + sys.getallocatedblocks() * SMALL_OBJECT_BYTES
