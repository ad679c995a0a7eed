"""LoRAs and textual inversions on disk: how fetched ones are called, which one a wish means, which make room."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from loguru import logger

from worker.models.disk.eviction import choose_evictions
from worker.models.disk.folder_layouts import MODEL_SUFFIXES
from worker.models.disk.store import Store
from worker.models.loras.civitai import Kind, Offer

#: Bytes of a name that a file is called by: file systems have room for 255, and endings are added.
MAX_NAME_BYTES: Final = 128
#: How files are called that were fetched for jobs, by this worker or reGen; others are the owner's, and stay.
FETCHED: Final[Mapping[Kind, re.Pattern[str]]] = MappingProxyType(
    {Kind.LORA: re.compile(r"(?P<name>.*)_(?P<version>\d+)"), Kind.EMBEDDING: re.compile(r"\d+")}
)

_UNSAFE = re.compile(r"[^\w .()-]+")


def choose_name(store: Store, kind: Kind, offer: Offer) -> str:
    """What the offered file is called: as another worker called it that fetched it before, else by its own name.

    Reads files whose checksum is not on record, so off the loop. Raises OSError.
    """
    if kind is Kind.EMBEDDING:
        return f"{offer.model_id}.safetensors"
    for path in _files(store, kind):
        found = FETCHED[kind].fullmatch(path.stem)
        # An owner's own file may end in any number.
        if found and found["version"] == str(offer.version_id) and store.hashes.compute(path) == offer.sha256:
            return path.name
    name = _UNSAFE.sub("", offer.name).encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(" .")
    return f"{name}_{offer.version_id}.safetensors"


def find_lora(store: Store, name: str, *, is_version: bool) -> Path | None:
    """A LoRA of the own tree by its name, or by the version's number where that is what is asked for."""
    for path in _files(store, Kind.LORA):
        found = FETCHED[Kind.LORA].fullmatch(path.stem)
        names = {path.stem} | ({found["version"] if is_version else found["name"]} if found else set())
        if name in names:
            return path
    return None


def find_embedding(store: Store, name: str) -> Path | None:
    """A textual inversion of the own tree by its name."""
    return next((path for path in _files(store, Kind.EMBEDDING) if path.stem == name), None)


def make_room(store: Store, kind: Kind, size: int, budget_bytes: int, now_s: float) -> None:
    """Delete the least recently used fetched files, so that one of `size` bytes is within the budget."""
    files = [file for file in store.cached_files(kind.folder) if FETCHED[kind].fullmatch(file.path.stem)]
    for file in choose_evictions(files, budget_bytes, now_s, needed_bytes=size):
        store.evict(file)
        logger.bind(action="cache_evicted").info("{} made room for others", file.path.name)


def purge_unknown(store: Store) -> list[Path]:
    """Delete the LoRAs of the own tree that are not called as fetched ones are; their paths. Raises OSError."""
    unknown = [
        file for file in store.cached_files(Kind.LORA.folder) if not FETCHED[Kind.LORA].fullmatch(file.path.stem)
    ]
    for file in unknown:
        store.evict(file)
    return [file.path for file in unknown]


def _files(store: Store, kind: Kind) -> list[Path]:
    return sorted(path for path in (store.root / kind.folder).glob("*") if path.suffix.lower() in MODEL_SUFFIXES)
