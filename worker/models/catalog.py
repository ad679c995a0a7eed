"""The models this worker serves, and what jobs name beside them, by what lies in the store."""

import re
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from loguru import logger

from worker.models.records import ModelRecord
from worker.models.store import MODEL_SUFFIXES, Store
from worker.workflows.request import Embedding, EmbeddingWish, LoraFile, LoraWish, Note, RenderRequest, ServedModel

#: How a LoRA's file is called: its name, and the version's number on CivitAI.
VERSIONED = re.compile(r"(?P<name>.*)_(?P<version>\d+)")


class Catalog:
    """Records the owner wants served, with their files."""

    def __init__(self, store: Store, records: Iterable[ModelRecord]) -> None:
        self._store = store
        self._served: dict[str, ServedModel] = {}
        for record in records:
            served = store.served(record)
            if isinstance(served, ServedModel):
                self._served[record.name] = served
            else:
                reasons = "; ".join(missing.reason for missing in served)
                logger.bind(action="model_missing", model=record.name).warning(
                    "{} is not served: {}", record.name, reasons
                )

    def running(self) -> AbstractAsyncContextManager[object]:
        """Nothing here lives by itself."""
        return nullcontext()

    def names(self) -> tuple[str, ...]:
        """Models whose files are all there, in the owner's order."""
        return tuple(self._served)

    def model(self, name: str) -> ServedModel | None:
        return self._served.get(name)

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | Note:  # noqa: ARG002 - the baseline is in no file's name
        """A LoRA on disk: by its name, or by the version's number where the job names that."""
        for path in self._files("lora"):
            found = VERSIONED.fullmatch(path.stem)
            names = {path.stem} | ({found["version"] if wish.is_version else found["name"]} if found else set())
            if wish.name in names:
                self._store.mark_used(path)
                return LoraFile(path.name, wish.model, wish.clip, wish.inject_trigger)
        return Note("lora", "download_failed", wish.name[:255])

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | Note:  # noqa: ARG002 - see lora
        """A textual inversion on disk, by its name."""
        for path in self._files("ti"):
            if path.stem == wish.name:
                self._store.mark_used(path)
                return Embedding(path.stem, wish.strength, wish.target)
        return Note("ti", "download_failed", wish.name[:255])

    def broken(self, request: RenderRequest) -> None:
        """Files that were put here by hand are for that hand to mend."""
        logger.bind(action="model_broken", model=request.model.name).error(
            "The engine can't read a file of {}.", request.model.name
        )

    def _files(self, folder: str) -> list[Path]:
        return sorted(path for path in (self._store.root / folder).glob("*") if path.suffix.lower() in MODEL_SUFFIXES)
