"""A file that is not whole yet: `<name>.part`, and beside it what is known of it, so that any death can be resumed.

The note is written after the bytes it tells of, so it may know less than there is, never more.
"""

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.models.catalog.cache_file import read_json, write_json


@dataclass
class Segment:
    """A run of bytes from `start` up to `end` (None: to the end, wherever that is), of which `done` are on disk."""

    start: int
    end: int | None
    done: int = 0

    @property
    def position(self) -> int:
        return self.start + self.done

    @property
    def complete(self) -> bool:
        return self.end is not None and self.position >= self.end


@dataclass
class PartState:
    """What is on disk of one version of one address. `etag` "" when the server has no strong one."""

    url: str
    etag: str
    total: int | None
    segments: list[Segment] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return all(segment.complete for segment in self.segments)

    @property
    def done(self) -> int:
        return sum(segment.done for segment in self.segments)

    @property
    def prefix(self) -> int:
        """Bytes on disk without a gap from the start."""
        upto = 0
        for segment in self.segments:
            if segment.start != upto:
                break
            upto = segment.position
            if not segment.complete:
                break
        return upto


class PartFile:
    """The unfinished file of a target."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")

    def load(self, url: str) -> PartState | None:
        """What is left of an earlier try with the same address. A bare `.part`, as reGen leaves it, counts too."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return None
        data = read_json(self.note)
        if data is None:
            return PartState(url, "", None, [Segment(0, None, size)]) if size else None
        try:
            state = _read_state(data)
        except (KeyError, TypeError, ValueError):
            return None
        fits = state.url == url and all(segment.position <= size for segment in state.segments)
        return state if fits and state.segments else None

    def create(self, state: PartState) -> None:
        """Start over with an empty file of the final size, where that is known. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("wb") as file:
            # First: a file of the final size without its note would pass for one that another program left whole.
            self.save(state)
            if state.total and len(state.segments) > 1:
                file.truncate(state.total)

    def save(self, state: PartState) -> None:
        """Note what is on disk, once it is. Raises OSError."""
        # Read before the disk is waited for: others go on writing meanwhile.
        note = {
            "url": state.url,
            "etag": state.etag,
            "total": state.total,
            "segments": [[segment.start, segment.end, segment.done] for segment in state.segments],
        }
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        write_json(self.note, note)

    def write(self, position: int, data: bytearray) -> None:
        with self.path.open("rb+") as file:
            file.seek(position)
            file.write(data)

    def finish(self) -> None:
        """The whole file under its own name, at once."""
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def split(total: int, count: int) -> list[Segment]:
    """`count` segments of about the same length that make up `total` bytes; fewer where there are fewer bytes."""
    count = max(1, min(count, total))
    bounds = [total * number // count for number in range(count + 1)]
    return [Segment(start, end) for start, end in itertools.pairwise(bounds)]


def _read_state(data: dict[str, Any]) -> PartState:
    total = data["total"]
    segments = [
        Segment(int(start), None if end is None else int(end), int(done)) for start, end, done in data["segments"]
    ]
    return PartState(str(data["url"]), str(data["etag"]), None if total is None else int(total), segments)
