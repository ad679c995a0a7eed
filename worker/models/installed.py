"""Models and LoRAs from what is on disk alone; nothing is fetched. For demo, benches and tests."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, nullcontext

from loguru import logger

from worker.errors import AdditionBroken, ModelBroken
from worker.models.catalog.records import ModelRecord
from worker.models.disk.store import Store
from worker.models.download_plan import as_model_file
from worker.models.loras.lora_cache import find_lora, find_textual_inversion, mark_used
from worker.models.progress import ModelsState
from worker.workflows.families import AuxiliaryFile
from worker.workflows.request import (
    Embedding,
    EmbeddingWish,
    GenMetadataNote,
    LoraFile,
    LoraWish,
    RenderRequest,
    ServedModel,
)


class InstalledModels:
    """Those of `records` whose files are all in `store`, in this order."""

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
        """Nothing runs in the background."""
        return nullcontext()

    def names(self) -> tuple[str, ...]:
        return tuple(self._served)

    def named(self) -> frozenset[str]:
        """None is: whoever makes this chose them."""
        return frozenset()

    def fetchable(self) -> tuple[str, ...]:
        return ()

    def fetch(self, name: str) -> None:
        """Nothing is."""

    def model(self, name: str) -> ServedModel | None:
        return self._served.get(name)

    def known_size(self, name: str) -> int | None:
        return 0 if name in self._served else None

    def has(self, file: AuxiliaryFile) -> bool:
        return self._store.check(as_model_file(file)) is None

    def listed(self, file: AuxiliaryFile) -> str | None:
        return self._store.listed(as_model_file(file))

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:  # noqa: ARG002 - a file's name has no baseline
        """A LoRA on disk by its name, or by its version number if the job names that."""
        path = find_lora(self._store, wish.name, is_version=wish.is_version)
        if path is None:
            return GenMetadataNote("lora", "download_failed", wish.name[:255])
        mark_used(path)
        return LoraFile(path.name, wish.model, wish.clip, wish.inject_trigger)

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:  # noqa: ARG002 - see lora
        """A textual inversion on disk by its name."""
        path = find_textual_inversion(self._store, wish.name)
        if path is None:
            return GenMetadataNote("ti", "download_failed", wish.name[:255])
        mark_used(path)
        return Embedding(path.stem, wish.strength, wish.target)

    def state(self) -> ModelsState:
        return ModelsState(self.names())

    def broken(self, request: RenderRequest, error: ModelBroken | AdditionBroken) -> None:
        """Files that were put here by hand are for that hand to mend."""
        logger.bind(action="model_broken", model=request.model.name).error("{}", error)

    def rendered(self, request: RenderRequest) -> None:
        """Nothing is held against any file here."""
