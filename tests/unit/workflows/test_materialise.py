import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import JobNotServable, TemplateError
from worker.workflows.audit import audit_graph
from worker.workflows.auxiliary_files import FACE_FIXERS, STRIP_BACKGROUND, UPSCALERS
from worker.workflows.features import features_of
from worker.workflows.graph import Graph, dangling
from worker.workflows.library import Library
from worker.workflows.materialise import Materialised, materialise
from worker.workflows.request import (
    Embedding,
    EmbeddingTarget,
    ExtraSource,
    LoraFile,
    RenderRequest,
    ServedModel,
    SourceImage,
)
from worker.workflows.template_selection import Selection, select
from worker.workflows.types import Dialect, Family, Feature, Mode

from .conftest import FILES, FUSED, NODES, SPLIT

Build = Callable[..., RenderRequest]
FLUXES = (Family.FLUX_1, Family.FLUX_SCHNELL, Family.FLUX_DEV)
DIFFUSIONS = (
    Family.STABLE_DIFFUSION_1,
    Family.STABLE_DIFFUSION_2_512,
    Family.STABLE_DIFFUSION_2_768,
    Family.STABLE_DIFFUSION_XL,
)
TWO_LORAS = (LoraFile("a.safetensors", 0.5, 0.25), LoraFile("b.safetensors"))


@pytest.fixture(scope="session")
def render(library: Library) -> Callable[..., Materialised]:
    def build(request: RenderRequest, dialect: Dialect = Dialect.PACK) -> Materialised:
        return materialise(select(library, request), request, dialect=dialect)

    return build


Render = Callable[..., Materialised]


def inputs(graph: Graph, title: str) -> dict[str, object]:
    [node] = [node for node in graph.values() if node["_meta"]["title"] == title]
    return dict(node["inputs"])


def test_the_fields_of_the_request_stand_in_the_graph(request_for: Build, render: Render) -> None:
    payload = {
        "prompt": "a fox###blurry",
        "seed": "18446744073709551615",
        "ddim_steps": 21,
        "cfg_scale": 6.5,
        "sampler_name": "dpmsolver",
        "karras": True,
        "width": 640,
        "height": 512,
        "n_iter": 3,
        "clip_skip": 2,
    }
    graph = render(request_for(payload)).graph
    assert inputs(graph, "positive")["text"] == "a fox"
    assert inputs(graph, "negative")["text"] == "blurry"
    assert inputs(graph, "clip_skip")["stop_at_clip_layer"] == -2
    assert inputs(graph, "latent") == {"width": 640, "height": 512, "batch_size": 3}
    sampler = inputs(graph, "sampler")
    assert {name: sampler[name] for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")} == {
        "seed": 2**64 - 1,
        "steps": 21,
        "cfg": 6.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 1.0,
    }


@pytest.mark.parametrize("family", DIFFUSIONS)
def test_clip_skip_is_set_exactly_even_by_default(request_for: Build, render: Render, family: Family) -> None:
    assert inputs(render(request_for(family=family)).graph, "clip_skip")["stop_at_clip_layer"] == -1


@pytest.mark.parametrize("files", [FUSED, SPLIT], ids=["fused", "split"])
def test_flux_samples_with_its_own_schedule(
    request_for: Build, render: Render, model: Callable[..., ServedModel], files: dict[str, str]
) -> None:
    request = request_for({"karras": True, "cfg_scale": 3.5}, model=model(Family.FLUX_DEV, files))
    graph = render(request).graph
    assert inputs(graph, "schedule")["scheduler"] == "normal"
    assert inputs(graph, "guider")["cfg"] == 3.5
    assert set(files.values()) <= {value for node in graph.values() for value in node["inputs"].values()
                                   if isinstance(value, str)}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "files"),
    [
        (Family.STABLE_DIFFUSION_1, FUSED),
        (Family.STABLE_DIFFUSION_XL, FUSED),
        (Family.FLUX_SCHNELL, FUSED),
        (Family.FLUX_SCHNELL, SPLIT),
    ],
)
def test_loras_feed_every_consumer_of_model_and_text_encoder(
    request_for: Build, render: Render, model: Callable[..., ServedModel], family: Family, files: dict[str, str]
) -> None:
    graph = render(request_for(loras=TWO_LORAS, model=model(family, files))).graph
    first, second = graph["lora-1"]["inputs"], graph["lora-2"]["inputs"]
    assert (first["lora_name"], first["strength_model"], first["strength_clip"]) == ("a.safetensors", 0.5, 0.25)
    assert (second["model"], second["clip"]) == (["lora-1", 0], ["lora-1", 1])
    loaders = {first["model"][0], first["clip"][0]}
    for node_id, node in graph.items():
        if node_id in {"lora-1", "lora-2"}:
            continue
        for name in ("model", "clip"):
            source = node["inputs"].get(name)
            assert source is None or source[0] not in {*loaders, "lora-1"}
    consumers = [node["_meta"]["title"] for node in graph.values() if ["lora-2", 0] in node["inputs"].values()]
    assert consumers == (["schedule", "guider"] if family in FLUXES else ["sampler"])


def test_the_second_pass_takes_over_where_the_first_fed_the_decoder(request_for: Build, render: Render) -> None:
    request = request_for({"hires_fix": True, "width": 768, "height": 768}, loras=TWO_LORAS)
    graph = render(request).graph
    assert inputs(graph, "latent")["width"] == 512
    assert inputs(graph, "upscale")["width"] == 768
    second = graph["hires-1-sampler"]["inputs"]
    assert (second["steps"], second["denoise"], second["scheduler"]) == (10, 0.65, "simple")
    assert second["model"] == ["lora-2", 0]
    assert inputs(graph, "decode")["samples"] == ["hires-1-sampler", 0]


@pytest.mark.parametrize("hires", [False, True])
def test_the_second_stage_of_a_remix_is_told_both_prompts(
    request_for: Build, render: Render, model: Callable[..., ServedModel], hires: bool
) -> None:
    large = {"hires_fix": hires, "width": 1536, "height": 1536}
    arguments = {
        "model": model(Family.STABLE_CASCADE, FILES[Family.STABLE_CASCADE]),
        "source": SourceImage("a", 8, 8),
        "source_processing": "remix",
    }
    # The stages of a hires fix read a negative prompt at cfg 1 too: the second one's own cfg is higher.
    for cfg in (4, 1) if hires else (4,):
        graph = render(request_for({**large, "cfg_scale": cfg, "prompt": "a###b"}, **arguments)).graph
        decoders = [node["inputs"] for node in graph.values() if node["_meta"]["title"] == "decoder"]
        assert len(decoders) == 1 + hires
        for decoder in decoders:
            assert graph[decoder["negative"][0]]["inputs"]["text"] == "b"
            told = graph[decoder["positive"][0]]["inputs"]["conditioning"]
            assert graph[told[0]]["inputs"]["text"] == "a"


@pytest.mark.parametrize("family", [Family.STABLE_DIFFUSION_XL, Family.FLUX_SCHNELL])
def test_an_unread_negative_prompt_is_not_encoded(request_for: Build, render: Render, family: Family) -> None:
    def encoders(**payload: object) -> list[str]:
        graph = render(request_for({"prompt": "a###b", **payload}, family=family)).graph
        return [node["inputs"]["text"] for node in graph.values() if node["class_type"] == "CLIPTextEncode"]

    assert encoders(cfg_scale=1) == ["a"]
    assert encoders(cfg_scale=1.5) == ["a", "b"]
    assert encoders(cfg_scale=1, sampler_name="euler_cfg_pp") == ["a", "b"]


@pytest.mark.parametrize("cfg", [1, 7.5])
def test_the_second_pass_of_cascade_has_the_cfg_that_its_users_know(
    request_for: Build, render: Render, model: Callable[..., ServedModel], cfg: float
) -> None:
    payload = {"prompt": "a###b", "cfg_scale": cfg, "hires_fix": True, "width": 2048, "height": 2048}
    cascade = model(Family.STABLE_CASCADE, FILES[Family.STABLE_CASCADE])
    graph = render(request_for(payload, model=cascade)).graph
    priors = [node["inputs"] for node in graph.values() if node["_meta"]["title"] == "prior"]
    assert [prior["cfg"] for prior in priors] == [cfg, 4.0]
    assert graph[priors[1]["negative"][0]]["inputs"]["text"] == "b"


def test_both_dialects_differ_in_the_output_only(request_for: Build, render: Render) -> None:
    request = request_for()
    ours, stock = render(request), render(request, Dialect.STOCK)
    assert {ours.graph[node_id]["class_type"] for node_id in ours.outputs} == {"HordeImageOutput"}
    assert {stock.graph[node_id]["class_type"] for node_id in stock.outputs} == {"SaveImageWebsocket"}
    for rendered in (ours, stock):
        assert len(rendered.outputs) == 1
        del rendered.graph[rendered.outputs[0]]
    assert ours.graph == stock.graph


@pytest.mark.parametrize(
    ("payload", "feature"),
    [
        ({"post_processing": ["GFPGAN"]}, "face_fix"),
        ({"post_processing": ["strip_background"]}, "strip_background"),
        ({"tiling": True}, "tiling"),
        ({"transparent": True}, "transparent"),
    ],
)
def test_a_stock_engine_is_not_given_what_needs_our_nodes(
    request_for: Build, render: Render, payload: dict[str, Any], feature: str
) -> None:
    assert render(request_for(payload)).outputs
    with pytest.raises(JobNotServable, match=f"{feature} can't be done with the stock nodes"):
        render(request_for(payload), Dialect.STOCK)


def test_a_feature_without_nodes_in_a_dialect_is_refused(library: Library, request_for: Build) -> None:
    request = request_for()
    plan = select(library, request)
    ours_only = Selection(plan.template, {**plan.fragments, Dialect.STOCK: ()})
    with pytest.raises(JobNotServable, match="output can't be done with the stock nodes"):
        materialise(ours_only, request, dialect=Dialect.STOCK)


def test_a_field_the_request_lacks_is_an_error_not_a_null(library: Library, request_for: Build) -> None:
    request = request_for()
    plan = select(library, request)
    bare = replace(request, model=replace(request.model, files={}))
    with pytest.raises(TemplateError, match=r"ckpt_name: this request has no model\.files\.checkpoint"):
        materialise(plan, bare)


def test_loaders_are_the_same_whatever_the_job(request_for: Build, render: Render) -> None:
    plain = render(request_for()).graph
    rich = render(
        request_for({"hires_fix": True, "width": 768, "height": 768, "prompt": "x", "seed": "5"}, loras=TWO_LORAS)
    ).graph
    assert json.dumps(plain["1"]) == json.dumps(rich["1"])
    assert next(iter(plain)) == next(iter(rich)) == "1"


def test_rendering_leaves_the_library_as_it_was(library: Library, request_for: Build, render: Render) -> None:
    before = [json.dumps(piece.graph) for piece in (*library.templates, *library.fragments)]
    render(request_for({"prompt": "changed"}, loras=TWO_LORAS))
    assert [json.dumps(piece.graph) for piece in (*library.templates, *library.fragments)] == before


LORAS = st.builds(
    LoraFile,
    file=st.text(min_size=1, max_size=20),
    model=st.floats(-10, 10),
    clip=st.floats(-10, 10),
    trigger=st.none() | st.sampled_from(["any", "all", "elf"]),
    words=st.lists(st.text(max_size=10), max_size=3).map(tuple),
)
EMBEDDINGS = st.builds(
    Embedding,
    file=st.text(min_size=1, max_size=10),
    strength=st.floats(-10, 10),
    target=st.sampled_from(EmbeddingTarget),
)
PAYLOADS = st.fixed_dictionaries(
    {"prompt": st.text(max_size=60), "seed": st.integers(0, 2**64 - 1).map(str)},
    optional={
        "ddim_steps": st.integers(-5, 600),
        "cfg_scale": st.floats(0, 120) | st.just(1),
        "sampler_name": st.sampled_from(["k_euler", "k_dpmpp_sde", "dpmsolver", "DDIM", "lcm", "euler_cfg_pp", "?"]),
        "scheduler": st.sampled_from(["simple", "beta", "?"]),
        "karras": st.booleans(),
        "width": st.integers(1, 9000),
        "height": st.integers(1, 9000),
        "denoising_strength": st.floats(0, 2),
        "n_iter": st.integers(0, 120),
        "clip_skip": st.integers(0, 30),
        "hires_fix": st.booleans(),
        "hires_fix_denoising_strength": st.floats(0, 2),
        "control_type": st.sampled_from(["canny", "hough", "?"]),
        "image_is_control": st.booleans(),
        "return_control_map": st.booleans(),
        "control_strength": st.floats(0, 9),
        "tiling": st.booleans(),
        "transparent": st.booleans(),
        "post_processing": st.lists(st.sampled_from([*FACE_FIXERS, *UPSCALERS, STRIP_BACKGROUND, "?"])),
        "facefixer_strength": st.floats(0, 2),
        "workflow": st.sampled_from(["qr_code", "auto_detect"]),
    },
)
#: What not every family, or no engine without our nodes, can do.
EXTRAORDINARY = {
    Feature.CONTROL, Feature.CONTROL_MAP, Feature.TILING, Feature.TRANSPARENT, Feature.FACE_FIX, Feature.UPSCALE,
    Feature.STRIP_BACKGROUND,
}  # fmt: skip


PICTURES = st.builds(SourceImage, st.just("job-0"), st.just(64), st.just(64), st.booleans())
EXTRAS = st.builds(ExtraSource, PICTURES, st.floats(-1, 9))
MODELS = st.one_of(
    st.sampled_from(list(Family)).map(lambda family: ServedModel("A Model", family, FILES[family])),
    st.sampled_from(FLUXES).map(lambda family: ServedModel("A Model", family, SPLIT)),
    st.sampled_from(DIFFUSIONS).map(lambda family: ServedModel("A Model", family, FUSED, inpainting=True)),
)


@settings(deadline=None)
@given(
    payload=PAYLOADS,
    model=MODELS,
    loras=st.lists(LORAS, max_size=5),
    embeddings=st.lists(EMBEDDINGS, max_size=3),
    processing=st.sampled_from(Mode),
    source=st.none() | PICTURES,
    extras=st.lists(EXTRAS, max_size=6),
    dialect=st.sampled_from(Dialect),
)
def test_every_request_gives_a_sound_graph_and_always_the_same(
    request_for: Build, render: Render, *, payload, model, loras, embeddings, processing, source, extras, dialect
) -> None:
    arguments = {
        "model": model,
        "loras": loras,
        "embeddings": embeddings,
        "source_processing": processing.value,
        "source": source,
        "extra_sources": extras,
    }
    request = request_for(payload, **arguments)
    try:
        rendered = render(request, dialect)
    except JobNotServable:
        beyond_every_family = EXTRAORDINARY & features_of(request)
        assert beyond_every_family or request.workflow or (request.source and dialect is Dialect.STOCK)
        return
    assert audit_graph(rendered.graph, NODES[model.family]) == []
    assert dangling(rendered.graph) == []
    assert rendered.outputs
    assert set(rendered.outputs) <= set(rendered.graph)
    again = render(request_for(payload, **arguments), dialect)
    assert json.dumps(again.graph) == json.dumps(rendered.graph)
    assert json.loads(json.dumps(rendered.graph)) == rendered.graph
