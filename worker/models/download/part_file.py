"""A file that is not whole yet: `<name>.part`, and a note beside it that allows to resume after any kill.

The note is written after the bytes it counts are on disk, so it may count fewer than there are, never more.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.models.catalog.documents import read_json, write_json

SUFFIX = ".part"


@dataclass
class PartState:
    """The first `done` bytes of one version of the file at `url`.

    `etag` is "" when the server sends no strong one, `total` None while the whole size is unknown.
    """

    url: str
    etag: str = ""
    total: int | None = None
    done: int = 0

    @property
    def complete(self) -> bool:
        return self.total is not None and self.done >= self.total


class PartFile:
    """The unfinished file of a target."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + SUFFIX)
        self.note = target.with_name(target.name + SUFFIX + ".json")

    def load(self, url: str) -> PartState | None:
        """What is left of an earlier try at the same address. A bare `.part`, as reGen leaves it, counts too."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return None
        data = read_json(self.note)
        if data is None:
            return PartState(url, done=size) if size else None
        try:
            total = data["total"]
            state = PartState(
                str(data["url"]), str(data["etag"]), None if total is None else int(total), int(data["done"])
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return state if state.url == url and 0 <= state.done <= size else None

    def create(self, state: PartState) -> None:
        """Start over with an empty file. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self.save(state)

    def append(self, state: PartState, data: bytes | bytearray) -> None:
        """Write `data` behind the bytes that count, and count it. Raises OSError."""
        with self.path.open("rb+") as file:
            file.seek(state.done)
            file.write(data)
            file.truncate()
        state.done += len(data)

    def save(self, state: PartState) -> None:
        """Note what is on disk. Raises OSError."""
        note = asdict(state)  # before waiting for the disk: others may write meanwhile
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        write_json(self.note, note)

    def finish(self) -> None:
        """Give the whole file its own name, in one step."""
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
