"""A pop response as its graph, without an engine: what `render` and `workflows explain` show."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.errors import InputRefused, JobNotServable, JobNotUnderstood
from worker.horde.messages import PopResponse
from worker.horde.pop_parser import read_fields
from worker.models.catalog.records import ModelRecord
from worker.untrusted.json_reader import JsonBounds, read_json
from worker.workflows.library import Library
from worker.workflows.materialise import Materialised, materialise
from worker.workflows.payload import embedding_wishes, lora_wishes, read_request
from worker.workflows.request import Embedding, ExtraSource, LoraFile, RenderRequest, ServedModel, SourceImage
from worker.workflows.template_selection import select
from worker.workflows.types import Mode

#: As large as an answer of the API may be: a pop may hold pictures in base64.
POP_BOUNDS = JsonBounds(max_bytes=64 * 1024 * 1024, long_stretches=True)


def read_pop_file(path: Path) -> PopResponse:
    """A pop response from a JSON file, as the worker reads one; captured files hold theirs under `pops`.

    Raises JobNotUnderstood with what is wrong with the file.
    """
    try:
        with path.open("rb") as file:
            data = read_json(file.read(POP_BOUNDS.max_bytes + 1), POP_BOUNDS)
    except OSError as error:
        raise JobNotUnderstood(f"{path} can't be read: {error.strerror}.") from error
    except InputRefused as error:
        raise JobNotUnderstood(f"{path} is no pop response. {error}") from error
    if isinstance(data, dict) and isinstance(data.get("pops"), list) and data["pops"]:
        first = data["pops"][0]
        data = first.get("response") if isinstance(first, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("payload"), dict):
        raise JobNotUnderstood(f"{path} holds no pop response.", remedy="It has `payload`, `model` and `ids`.")
    pop, problems = read_fields(data | {"problems": ()})
    if problems:
        raise JobNotUnderstood(f"{path}: {'; '.join(problems)}.")
    if not pop.job_ids:
        raise JobNotUnderstood(f"{path} is a pop without a job.")
    return pop


def request_for(pop: PopResponse, models: Mapping[str, ModelRecord]) -> RenderRequest:
    """The request of a pop, as if all files of its model, and all that it names, were there under their usual names.

    Raises JobNotServable for a model the reference does not know.
    """
    record = models.get(pop.model)
    if record is None or record.family is None:
        raise JobNotServable(
            f"The model {pop.model!r} is in no known model list.", remedy="Name a folder with --reference."
        )
    files = {file.purpose.value: file.name for file in record.files}
    source, extras = _pictures(pop, masked=record.inpainting)
    return read_request(
        pop.payload,
        model=ServedModel(record.name, record.family, files, inpainting=record.inpainting),
        images=len(pop.job_ids),
        source_processing=pop.source_processing,
        source=source,
        extra_sources=extras,
        loras=[
            LoraFile(f"{wish.name}.safetensors", wish.model, wish.clip, wish.inject_trigger)
            for wish in lora_wishes(pop.payload)
        ],
        embeddings=[Embedding(wish.name, wish.strength, wish.target) for wish in embedding_wishes(pop.payload)],
    )


def _pictures(pop: PopResponse, *, masked: bool) -> tuple[SourceImage | None, list[ExtraSource]]:
    """The pictures a pop points to, unseen: whether one has transparency is guessed from what is to be done with it.

    `masked`: there always is one, and a part of it is painted anew.
    """
    side = 64  # of no consequence: pictures are stretched to the size of the work
    repainted = masked or pop.source_mask or pop.source_processing in {Mode.INPAINTING.value, Mode.OUTPAINTING.value}
    source = SourceImage(f"{pop.job_ids[0]}-0", side, side, has_alpha=bool(repainted), stand_in=not pop.source_image)
    extras = [
        ExtraSource(SourceImage(f"{pop.job_ids[0]}-{number}", side, side), extra.strength)
        for number, extra in enumerate(pop.extra_source_images, start=1)
    ]
    return source if pop.source_image or masked else None, extras


def preview(pop: PopResponse, models: Mapping[str, ModelRecord], library: Library) -> Materialised:
    """The graph for a pop. Raises JobError when there is none."""
    request = request_for(pop, models)
    return materialise(select(library, request), request)


def to_json(graph: Mapping[str, Any]) -> str:
    """A graph as ComfyUI's own export writes it."""
    return json.dumps(graph, indent=2, ensure_ascii=False)
