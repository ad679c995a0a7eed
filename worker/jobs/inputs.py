"""What a job names, found: its model, its LoRAs, its textual inversions; and its payload with all of that, read."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol, TypeVar

from worker.aio import timeout_at
from worker.errors import JobNotServable, JobNotUnderstood
from worker.horde.messages import GenMetadata
from worker.jobs.job import Job
from worker.jobs.source_images import Pictures
from worker.models.progress import ModelsState
from worker.workflows.auxiliary_files import AuxiliaryFile, needs
from worker.workflows.payload import embedding_wishes, lora_wishes, read_request
from worker.workflows.request import (
    Embedding,
    EmbeddingWish,
    GenMetadataNote,
    LoraFile,
    LoraWish,
    RenderRequest,
    ServedModel,
)
from worker.workflows.select import Selection

#: Of a job's time, what its additions may take to arrive; the rest is for making and delivering the picture.
ADDITIONS_SHARE = 0.4

Found = TypeVar("Found")


class ModelSource(Protocol):
    """The models room, as a job sees it."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Around everything else: what the room does by itself, from the first job to the last."""
        ...

    def names(self) -> tuple[str, ...]:
        """Models whose files are all there, in the owner's order."""
        ...

    def model(self, name: str) -> ServedModel | None:
        """A model by its Horde name."""
        ...

    def has(self, file: AuxiliaryFile) -> bool:
        """Whether a file beside the models is here and looks whole. Cheap enough to ask for every pop."""
        ...

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        """The file for a LoRA, or what to tell the requester when there is none."""
        ...

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:
        """The file for a textual inversion, or what to tell the requester when there is none."""
        ...

    def state(self) -> ModelsState:
        """What is here, what is on its way, what can't be had."""
        ...

    def broken(self, request: RenderRequest) -> None:
        """Hear that an engine could not read a file that this request needs. Returns at once."""
        ...


def find_model(job: Job, models: ModelSource) -> ServedModel:
    """The job's model. Raises JobNotUnderstood for an answer that can't be read, JobNotServable when it is not here."""
    if job.pop.problems:
        raise JobNotUnderstood(f"The Horde's answer can't be read: {'; '.join(job.pop.problems)}")
    model = models.model(job.pop.model)
    if model is None:
        raise JobNotServable(f"The model {job.pop.model!r} is not here.")
    return model


def require_files(request: RenderRequest, plan: Selection, models: ModelSource) -> None:
    """Raises JobNotServable when a file beside the model's own is not here."""
    absent = [file for file in needs(request, but_for=plan.does_without) if not models.has(file)]
    if absent:
        raise JobNotServable(
            f"The job needs {' and '.join(f'{file.folder}/{file.name}' for file in absent)}, not here."
        )


async def read_job(
    job: Job,
    model: ServedModel,
    models: ModelSource,
    pictures: Pictures,
    *,
    upscale_budget_px: Callable[[RenderRequest, float], float] = lambda _request, _deadline: float("inf"),
) -> RenderRequest:
    """The job's payload as a request.

    What can't be found is left out and told to the requester in the metadata, and so are upscalers beyond what there
    is time for: `upscale_budget_px` gives pixels of work for a request and the job's deadline.
    """
    pop = job.pop
    now = asyncio.get_running_loop().time()
    until = now + ADDITIONS_SHARE * (job.deadline - now)
    wishes = (lora_wishes(pop.payload), embedding_wishes(pop.payload))
    loras, embeddings = await asyncio.gather(
        asyncio.gather(*(_by(until, models.lora(wish, model), _late("lora", wish.name)) for wish in wishes[0])),
        asyncio.gather(*(_by(until, models.embedding(wish, model), _late("ti", wish.name)) for wish in wishes[1])),
    )
    read = partial(
        read_request,
        pop.payload,
        model=model,
        images=len(pop.job_ids),
        source_processing=pop.source_processing,
        source=pictures.source,
        extra_sources=pictures.extras,
        loras=[lora for lora in loras if isinstance(lora, LoraFile)],
        embeddings=[embedding for embedding in embeddings if isinstance(embedding, Embedding)],
    )
    request = read()
    if request.upscalers:
        request = read(most_upscaled_px=upscale_budget_px(request, job.deadline))
    notes = [note for note in (*loras, *embeddings, *request.notes) if isinstance(note, GenMetadataNote)]
    job.metadata.extend(GenMetadata.model_validate({"type": n.type, "value": n.value, "ref": n.ref}) for n in notes)
    return request


async def _by(until: float, finding: Awaitable[Found], late: GenMetadataNote) -> Found | GenMetadataNote:
    try:
        async with timeout_at(until):
            return await finding
    except TimeoutError:
        return late


def _late(kind: str, name: str) -> GenMetadataNote:
    return GenMetadataNote(kind, "download_failed", name[:255])
