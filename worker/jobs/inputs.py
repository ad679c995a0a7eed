"""What a job names, found: its model, its LoRAs, its textual inversions; and its payload with all of that, read."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from worker.aio import timeout_at
from worker.errors import Addition, AdditionBroken, JobNotServable, JobNotUnderstood, ModelBroken
from worker.horde.messages import GenMetadata
from worker.jobs.broken_additions import addition_of, leave_out
from worker.jobs.job import Job
from worker.jobs.source_images import Pictures
from worker.models.progress import ModelsState
from worker.workflows.auxiliary_files import needs
from worker.workflows.families import AuxiliaryFile
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
from worker.workflows.template_selection import Selection

#: Of a job's time, what its additions may take to arrive; the rest is for making and delivering the picture.
ADDITIONS_SHARE = 0.4

Found = LoraFile | Embedding | GenMetadataNote


class ModelSource(Protocol):
    """The part of the model manager that jobs use."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Background work of the manager; entered while the worker serves."""

    def names(self) -> tuple[str, ...]:
        """Models whose files are all there, in the owner's order."""

    def named(self) -> Collection[str]:
        """Models that the owner named, his own among them; the others are there by a command, or by demand."""

    def fetchable(self) -> Sequence[str]:
        """Models that are not here and may be fetched once they are asked for."""

    def fetch(self, name: str) -> None:
        """Fetch one of `fetchable`."""

    def model(self, name: str) -> ServedModel | None:
        """A model by its Horde name."""

    def has(self, file: AuxiliaryFile) -> bool:
        """Whether a file beside the models is here and looks whole. Cheap enough to ask for every pop."""

    def listed(self, file: AuxiliaryFile) -> str | None:
        """Its name as ComfyUI lists it, with the folder that the owner keeps it in; None where it is not here."""

    async def lora(self, wish: LoraWish, model: ServedModel) -> LoraFile | GenMetadataNote:
        """The file for a LoRA, or what to tell the requester when there is none."""

    async def embedding(self, wish: EmbeddingWish, model: ServedModel) -> Embedding | GenMetadataNote:
        """The file for a textual inversion, or what to tell the requester when there is none."""

    def state(self) -> ModelsState:
        """What is here, what is on its way, what can't be had."""

    def known_size(self, name: str) -> int | None:
        """Bytes of a model that could be served here, wanted or not, 0 where unknown. None: no list has it."""

    def broken(self, request: RenderRequest, error: ModelBroken | AdditionBroken) -> None:
        """Hear that an engine could not use a file that this request needs. Returns at once."""

    def rendered(self, request: RenderRequest) -> None:
        """Hear that an engine could use every file that this request needs."""


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
    absent = [file for file in needs(request, models.has, but_for=plan.does_without) if not models.has(file)]
    if absent:
        raise JobNotServable(
            f"The job needs {' and '.join(f'{file.folder}/{file.name}' for file in absent)}, not here."
        )


@dataclass(frozen=True)
class JobInputs:
    """A job's payload as a request, and the names under which its requester knows the LoRAs and textual inversions."""

    request: RenderRequest
    names: Mapping[Addition, str]

    def note_on(self, addition: Addition, value: str = "parse_failed") -> GenMetadata:
        """What the requester is told of one that engines can't use; `value` as gen_metadata has it."""
        name = self.names.get(addition, addition.file)
        return GenMetadata.model_validate({"type": addition.kind.value, "value": value, "ref": name})


async def read_job(
    job: Job,
    model: ServedModel,
    models: ModelSource,
    pictures: Pictures,
    *,
    broken: Container[Addition] = (),
    upscale_budget_px: Callable[[RenderRequest, float], float] = lambda _request, _deadline: float("inf"),
) -> JobInputs:
    """The job's payload read.

    What can't be found or used is left out and told to the requester in the metadata, and so are upscalers beyond what
    there is time for: `upscale_budget_px` gives pixels of work for a request and the job's deadline. `broken`: LoRAs
    and textual inversions that engines could not use lately.
    """
    pop = job.pop
    now = asyncio.get_running_loop().time()
    until = now + ADDITIONS_SHARE * (job.deadline - now)
    loras, embeddings = lora_wishes(pop.payload), embedding_wishes(pop.payload)
    found = await asyncio.gather(
        *(_by(until, models.lora(wish, model), "lora", wish.name) for wish in loras),
        *(_by(until, models.embedding(wish, model), "ti", wish.name) for wish in embeddings),
    )
    wishes: list[LoraWish | EmbeddingWish] = [*loras, *embeddings]
    names = {
        addition_of(each): wish.name
        for wish, each in zip(wishes, found, strict=True)
        if not isinstance(each, GenMetadataNote)
    }
    unusable = [addition for addition in names if addition in broken]
    usable = [each for each in found if not isinstance(each, GenMetadataNote) and addition_of(each) not in unusable]
    read = partial(
        read_request,
        pop.payload,
        model=model,
        images=len(pop.job_ids),
        source_processing=pop.source_processing,
        source=pictures.source,
        extra_sources=pictures.extras,
        loras=[each for each in usable if isinstance(each, LoraFile)],
        embeddings=[each for each in usable if isinstance(each, Embedding)],
        listed=models.listed,
    )
    request = read()
    if request.upscalers:
        request = read(most_upscaled_px=upscale_budget_px(request, job.deadline))
    inputs = JobInputs(leave_out(request, unusable), names)
    notes = [note for note in (*found, *request.notes) if isinstance(note, GenMetadataNote)]
    job.metadata.extend(GenMetadata.model_validate({"type": n.type, "value": n.value, "ref": n.ref}) for n in notes)
    job.metadata.extend(map(inputs.note_on, unusable))
    return inputs


async def _by(until: float, finding: Awaitable[Found], kind: str, name: str) -> Found:
    """What is found by then, else the note that says so."""
    try:
        async with timeout_at(until):
            return await finding
    except TimeoutError:
        return GenMetadataNote(kind, "download_failed", name[:255])
