"""Which LoRAs and textual inversions make room when their folder is full. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Bytes of a gigabyte as the config's `max_lora_cache_size` counts it.
GIB: Final = 1024**3
#: A file used within this many seconds stays: a job may be about to load it.
GRACE_S: Final = 600.0


@dataclass(frozen=True)
class CachedFile:
    """A file that may be fetched again. `last_used_s` is on the same clock as `now_s`."""

    path: Path
    size: int
    last_used_s: float


def choose_evictions(
    files: Iterable[CachedFile], budget_bytes: int, now_s: float, *, needed_bytes: int = 0, grace_s: float = GRACE_S
) -> tuple[CachedFile, ...]:
    """The least recently used files whose removal brings the total and `needed_bytes` within the budget.

    As few as needed, in order of last use. Just used files stay, even when the budget is exceeded.
    """
    listed = list(files)
    excess = sum(file.size for file in listed) + needed_bytes - budget_bytes
    chosen: list[CachedFile] = []
    for file in sorted(listed, key=lambda file: (file.last_used_s, str(file.path))):
        if excess <= 0:
            break
        if now_s - file.last_used_s < grace_s:
            continue
        chosen.append(file)
        excess -= file.size
    return tuple(chosen)
