"""What was learned of LoRAs and textual inversions, by what jobs called them; kept on disk for the next start."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from loguru import logger

from worker.bounded_dict import BoundedDict
from worker.models.catalog.documents import read_json, write_json
from worker.models.catalog.schemas import read_sha256
from worker.models.loras.civitai import MAX_NAME, Kind, read_words

#: Below the model root.
FILE: Final = "horde_model_reference/civitai.cached.json"
#: Entries that are kept.
MAX_ENTRIES: Final = 5000


@dataclass(frozen=True)
class KnownFile:
    """A file that jobs name. Without `url` nothing but its name on disk is known. `asked_s`: time of the answer."""

    file: str
    url: str = ""
    sha256: str | None = None
    size: int = 0
    base_model: str = ""
    nsfw: bool = False
    words: tuple[str, ...] = ()
    asked_s: float = 0.0


class KnownFiles:
    """Keys are `<folder>:name:<name>` or `<folder>:version:<id>`."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._entries: BoundedDict[str, KnownFile] = BoundedDict(MAX_ENTRIES)
        content = read_json(self._path)
        for key, entry in content.items() if isinstance(content, dict) else ():
            if known := _read(entry):
                self._entries[key] = known

    def by_wish(self, key: str) -> KnownFile | None:
        return self._entries.get(key)

    def by_file(self, kind: Kind, file: str) -> KnownFile | None:
        """What was learned of a file, whatever it was called."""
        start = f"{kind.folder}:"
        return next(
            (known for key, known in self._entries.items() if known.file == file and key.startswith(start)), None
        )

    async def keep(self, key: str, known: KnownFile) -> None:
        """Add or replace an entry, on disk too where that is possible."""
        self._entries[key] = known
        content = {key: asdict(known) for key, known in self._entries.items()}
        try:
            await asyncio.to_thread(write_json, self._path, content)
        except OSError as error:
            logger.bind(action="civitai_index_not_kept").warning("{} can't be written: {}", self._path, error)


def _read(entry: Any) -> KnownFile | None:
    """An entry of the file; None for one that makes no sense."""
    if not isinstance(entry, Mapping):
        return None
    try:
        file = str(entry["file"])
        known = KnownFile(
            file=file,
            url=str(entry["url"]),
            sha256=read_sha256(entry["sha256"]),
            size=int(entry["size"]),
            base_model=str(entry["base_model"])[:MAX_NAME],
            nsfw=bool(entry["nsfw"]),
            words=read_words(list(entry["words"])),
            asked_s=float(entry["asked_s"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return known if Path(file).name == file and "\\" not in file else None
