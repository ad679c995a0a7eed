"""From a pop's answer to a graph: whatever the answer says, a graph that ComfyUI takes, or a reason."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.newer_comfyui import newer_snapshot
from worker.errors import JobNotServable
from worker.horde.pop_parser import read_fields
from worker.workflows.audit import audit_graph
from worker.workflows.families import TRAITS, EngineNeeds
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.node_classes import snapshot
from worker.workflows.payload import embedding_wishes, lora_wishes, read_request
from worker.workflows.prompt_syntax import is_harmless
from worker.workflows.request import Embedding, LoraFile, ServedModel, SourceImage
from worker.workflows.template_selection import select
from worker.workflows.types import Dialect, Family

LIBRARY = Library.load()
FILES = dict.fromkeys(
    ("checkpoint", "unet", "text_encoder", "text_encoder_2", "vae", "stage_b", "stage_c"), "file.safetensors"
)
FIELDS = (
    "prompt", "negative_prompt", "seed", "ddim_steps", "n_iter", "width", "height", "sampler_name", "scheduler",
    "karras", "cfg_scale", "denoising_strength", "hires_fix", "hires_fix_denoising_strength",
    "hires_fix_first_pass_width",
    "hires_fix_second_pass_steps", "clip_skip", "tiling", "transparent", "post_processing", "facefixer_strength",
    "control_type", "control_strength", "image_is_control", "return_control_map", "workflow", "extra_texts", "loras",
    "tis", "special",
)  # fmt: skip
#: Stands in a text → what it is replaced with, for examples that can be printed.
LONG = {"<digits>": "9" * 5000, "<long>": "a " * 15_000, "<deep>": "(" * 3000}
WORDS = st.sampled_from(
    ["(a:nan)", "embedding:", "(((", ")))", ":1e400", "{a|b", "###", "qr_code", "canny", "GFPGAN", "RealESRGAN_x4plus",
     "\x1b[31m", "\u202e", "\ud800", "\x00", "\U0001f98a", "-1", "1e309", "../../x", *LONG]
)  # fmt: skip
TEXTS = st.lists(WORDS | st.text(max_size=20), max_size=5).map(" ".join)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 0.1 + 0.2])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "text", "reference", "model", "strength", "inject_ti"]), inner)
    ),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=12)


def grown(value: Any) -> Any:
    """The value with its long texts."""
    match value:
        case str():
            for short, long in LONG.items():
                value = value.replace(short, long)
            return value
        case list():
            return [grown(each) for each in value]
        case dict():
            return {name: grown(each) for name, each in value.items()}
        case _:
            return value


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    payload=PAYLOADS,
    processing=ANYTHING,
    family=st.sampled_from(list(Family)),
    inpainting=st.booleans(),
    picture=st.booleans(),
    ids=st.integers(1, 20),
)
def test_any_payload_gives_a_graph_that_comfyui_takes_or_a_reason(
    *, payload: dict[str, Any], processing: Any, family: Family, inpainting: bool, picture: bool, ids: int
) -> None:
    fields = {"payload": grown(payload), "ids": [f"id-{n}" for n in range(ids)], "source_processing": processing}
    pop, _ = read_fields(fields)
    request = read_request(
        pop.payload,
        model=ServedModel("A Model", family, FILES, inpainting=inpainting),
        images=len(pop.job_ids),
        source_processing=pop.source_processing,
        source=SourceImage("picture", 64, 64, has_alpha=inpainting) if picture else None,
        loras=[LoraFile("l", wish.model, wish.clip, wish.inject_trigger, ("w",)) for wish in lora_wishes(pop.payload)],
        embeddings=[Embedding("e", wish.strength, wish.target) for wish in embedding_wishes(pop.payload)],
    )
    assert request.batch == ids
    assert is_harmless(request.prompt)
    assert is_harmless(request.negative_prompt)
    try:
        selection = select(LIBRARY, request)
    except JobNotServable as error:
        reason = error.message
    else:
        reason = ""
    if reason:
        assert len(reason) < 10_000
        return
    graph = materialise(selection, request, dialect=Dialect.PACK).graph
    # A family that the pinned ComfyUI can't serve is held against the nodes of the newer one that can.
    newer = newer_snapshot()[1] if TRAITS[family].needs != EngineNeeds() else {}
    assert audit_graph(graph, {**snapshot(), **newer}) == []
    assert len(json.dumps(graph, allow_nan=False).encode()) < 1_000_000
