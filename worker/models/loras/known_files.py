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
#: Below the model root: files that can't be used, by their checksum, with the reason.
BAD_FILE: Final = "horde_model_reference/bad_loras.cached.json"
#: Entries that are kept.
MAX_ENTRIES: Final = 5000
MAX_REASON: Final = 300


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
        self._bad_path = root / BAD_FILE
        self._bad: BoundedDict[str, str] = BoundedDict(MAX_ENTRIES)
        content = read_json(self._bad_path)
        for sha256, reason in content.items() if isinstance(content, dict) else ():
            if read_sha256(sha256) and isinstance(reason, str):
                self._bad[sha256] = reason[:MAX_REASON]

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
        await _write(self._path, {key: asdict(known) for key, known in self._entries.items()})

    def why_bad(self, sha256: str | None) -> str:
        """Why the file with this checksum can't be used; "" where nothing is known against it."""
        return self._bad.get(sha256 or "", "")

    async def keep_bad(self, sha256: str, reason: str) -> None:
        """Remember that the file with this checksum can't be used, on disk too where that is possible."""
        self._bad[sha256] = reason[:MAX_REASON]
        await _write(self._bad_path, dict(self._bad))


async def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        await asyncio.to_thread(write_json, path, content)
    except OSError as error:
        logger.bind(action="lora_facts_not_kept").warning("{} can't be written: {}", path, error)


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
