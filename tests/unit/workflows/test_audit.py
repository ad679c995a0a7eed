from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from worker.app.live_library import LiveLibrary
from worker.workflows import packaged_folder
from worker.workflows.audit import audit_graph, audit_library, files_absent, is_listed, own_classes, remarks
from worker.workflows.graph import Graph
from worker.workflows.library import Library
from worker.workflows.node_classes import ObjectInfo, snapshot, with_any_file

INFO: dict[str, Any] = {
    "Loader": {"input": {"required": {"file": ["ANY_FILE"]}}, "output": ["MODEL", "CLIP"]},
    "Picker": {"input": {"required": {}}, "output": [["a", "b"]]},
    "Either": {"input": {}, "output": ["IMAGE,MASK"]},
    "Wild": {"input": {"optional": {"anything": ["*"]}}, "output": ["*"]},
    "Node": {
        "input": {
            "required": {
                "model": ["MODEL", {"tooltip": "x"}],
                "count": ["INT", {"min": 1, "max": 9}],
                "old_choice": [["a", "b"]],
            },
            "optional": {
                "ratio": ["FLOAT", {"max": 1.0}],
                "text": ["STRING"],
                "on": ["BOOLEAN"],
                "new_choice": ["COMBO", {"options": ["x", 2]}],
                "image": ["IMAGE"],
                "no_choice": [[]],
            },
        },
        "output": ["IMAGE"],
    },
}


def graph(**inputs: Any) -> Graph:
    node = {"model": ["1", 0], "count": 3, "old_choice": "a", **inputs}
    return {
        "1": {"class_type": "Loader", "inputs": {"file": "some.safetensors"}, "_meta": {"title": "loader"}},
        "2": {
            "class_type": "Node",
            "inputs": {k: v for k, v in node.items() if v is not None},
            "_meta": {"title": "n"},
        },
        "3": {"class_type": "Picker", "inputs": {}},
        "4": {"class_type": "Either", "inputs": {}},
        "5": {"class_type": "Wild", "inputs": {"anything": ["1", 1]}},
    }


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"ratio": 1, "text": "", "on": False, "new_choice": 2},
        {"ratio": -1e9},
        # ComfyUI ignores what it has no input for, and converts values.
        {"modle": 1, "upload": "image"},
        {"count": True},
        {"count": "3"},
        {"count": 3.9},
        {"ratio": "1"},
        {"text": 1},
        {"on": 1},
        {"old_choice": ["3", 0]},
        {"image": ["4", 0]},
        {"model": ["5", 0]},
    ],
)
def test_a_sound_graph_has_no_findings(inputs: dict[str, Any]) -> None:
    assert audit_graph(graph(**inputs), INFO) == []


@pytest.mark.parametrize(
    ("inputs", "finding"),
    [
        ({"model": None}, "n:model: Node needs this input"),
        ({"modle": ["1", 0]}, "n:modle: Node has no such input"),
        ({"model": ["9", 0]}, "n:model: comes from node 9, which does not exist"),
        ({"model": ["1", 2]}, "n:model: Loader has no output 2, only 2"),
        ({"model": ["1", 1]}, "n:model: takes MODEL, but Loader gives CLIP"),
        ({"model": "x"}, "n:model: takes MODEL from another node, not the value 'x'"),
        ({"count": 0}, "n:count: 0 is not within 1 to 9"),
        ({"count": 10}, "n:count: 10 is not within 1 to 9"),
        ({"count": "many"}, "n:count: 'many' is no INT"),
        ({"count": {"a": 1}}, "n:count: {'a': 1} is no INT"),
        ({"count": "30"}, "n:count: 30 is not within 1 to 9"),
        ({"count": float("nan")}, "n:count: nan is no INT"),
        ({"ratio": 1.1}, "n:ratio: 1.1 is not within -inf to 1.0"),
        ({"ratio": "half"}, "n:ratio: 'half' is no FLOAT"),
        ({"old_choice": "c"}, "n:old_choice: 'c' is none of a, b"),
        ({"new_choice": "y"}, "n:new_choice: 'y' is none of x, 2"),
        ({"no_choice": "y"}, "n:no_choice: 'y' is none of the choices (there are none)"),
    ],
)
def test_what_comfyui_would_refuse_or_drop_is_found(inputs: dict[str, Any], finding: str) -> None:
    assert audit_graph(graph(**inputs), INFO) == [finding]


def test_a_node_class_the_engine_lacks_is_found_once() -> None:
    strange = graph()
    strange["1"]["class_type"] = "Unheard"
    assert audit_graph(strange, INFO) == ["loader:: the engine has no node class Unheard"]


def test_all_that_we_package_fits_the_pinned_engine(library: Library) -> None:
    findings = audit_library(library, snapshot())
    beyond = {"krea2/split"}
    assert set(findings) == {piece.name for piece in (*library.templates, *library.fragments)} - beyond
    assert {name: found for name, found in findings.items() if found} == {}


MANIFEST = """
description: Wrong in every way that only the engine can tell.
serves: {families: [stable_diffusion_1], modes: [txt2img]}
nodes: {noise: EmptyImage, sampler: KSampler}
bind: {noise.width: prompt, noise.height: height, sampler.steps: cfg, sampler.sampler_name: sampler}
ports: {image: noise.0, model: noise.0, latent: sampler.4, own: noise.0}
outputs: [output]
ignores: [negative_prompt, seed, steps, scheduler, denoise, clip_skip, width, batch]
"""
WRONG = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 0, "tint": 1, "color": 0},
        "_meta": {"title": "noise"},
    },
    "2": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 1, "steps": 20, "cfg": 1.0, "sampler_name": "any", "scheduler": "odd", "denoise": 1.0,
            "model": ["1", 0], "positive": ["1", 0], "latent_image": ["1", 0],
        },
        "_meta": {"title": "sampler"},
    },
    "3": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}, "_meta": {"title": "output"}},
}  # fmt: skip


SCHEDULERS = (
    "simple, sgm_uniform, karras, exponential, ddim_uniform, beta, normal, linear_quadratic, kl_optimal, "
    "align_your_steps_sd1, align_your_steps_sdxl, gits"
)


def test_bindings_and_ports_are_audited_with_the_graph(folder: Callable[..., Path]) -> None:
    library = Library.load(packaged_folder(), folder("own/wrong", MANIFEST, WRONG), approved_classes={"EmptyImage"})
    assert library.violations == ()
    assert sorted(audit_library(library, snapshot())["own/wrong"]) == [
        "noise:batch_size: 0 is not within 1 to 4096",
        "noise:width: takes INT, but is bound to str",
        "port latent: KSampler has no output 4, only 1",
        "port model: takes MODEL, but EmptyImage gives IMAGE",
        "sampler:latent_image: takes LATENT, but EmptyImage gives IMAGE",
        "sampler:model: takes MODEL, but EmptyImage gives IMAGE",
        "sampler:negative: KSampler needs this input",
        "sampler:positive: takes CONDITIONING, but EmptyImage gives IMAGE",
        f"sampler:scheduler: 'odd' is none of {SCHEDULERS}",
        "sampler:steps: takes INT, but is bound to float",
    ]


FRAGMENT = """
description: Ports that do not fit.
when: tiling
order: 500
nodes: {invert: ImageInvert}
in: {model: invert.image, image: invert.picture}
out: {model: invert.0}
"""
INVERT = {"2": {"class_type": "ImageInvert", "inputs": {}, "_meta": {"title": "invert"}}}


def test_the_ports_of_a_fragment_are_audited(folder: Callable[..., Path]) -> None:
    own = folder("fragments/invert", FRAGMENT, INVERT)
    library = Library.load(packaged_folder(), own, approved_classes={"ImageInvert"})
    assert audit_library(library, snapshot())["fragments/invert"] == [
        "port model: takes MODEL, but ImageInvert gives IMAGE",
        "port model: carries MODEL, but image takes IMAGE",
        "port image: ImageInvert has no input picture",
    ]


def test_an_engine_without_our_pack_switches_off_exactly_what_needs_it(library: Library) -> None:
    stock = {name: info for name, info in snapshot().items() if not name.startswith("Horde")}
    pieces = (*library.templates, *library.fragments)
    ours = {piece.name for piece in pieces if any(name.startswith("Horde") for name in piece.classes)}
    assert {"fragments/output", "fragments/picture"} <= ours
    assert set(library.without(audit_library(library, stock)).disabled) == ours


def test_the_snapshot_is_small_and_has_one_line_for_each_class() -> None:
    text = (Path(packaged_folder().parent) / "worker" / "workflows" / "object_info.json").read_text("utf-8")
    assert len(text) < 400_000
    assert len(text.splitlines()) == len(snapshot()) + 2
    assert {"HordeImageInput", "HordeImageOutput", "SaveImageWebsocket", "KSampler"} <= set(snapshot())


def test_nodes_that_wait_for_one_another_are_found() -> None:
    graph = {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["2", 0]}},
    }
    assert audit_graph(graph, snapshot()) == ["1:: 1 and 2 and 3 wait for one another"]


def test_an_engine_without_a_file_yet_runs_every_workflow_once_the_file_is_there() -> None:
    empty = {
        name: {**info, "input": {group: {each: [[]] if spec == ["ANY_FILE"] else spec for each, spec in specs.items()}
                                 for group, specs in info["input"].items()}}
        for name, info in snapshot().items()
    }  # fmt: skip
    library = Library.load(packaged_folder())
    assert any(audit_library(library, empty).values())
    assert not any(audit_library(library, with_any_file(empty)).values())
    assert with_any_file({"Foreign": {"input": {}, "output": []}}) == {"Foreign": {"input": {}, "output": []}}


OWN = """
description: Our plain template with nodes that an export brings along.
serves: {families: [stable_diffusion_1], modes: [txt2img]}
nodes: {noise: EmptyImage}
bind: {noise.width: width, noise.height: height, noise.batch_size: batch}
ports: {image: blend.0}
outputs: [output]
ignores: [prompt, negative_prompt, seed, steps, cfg, sampler, scheduler, denoise, clip_skip]
"""
EXPORT = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": "7"},
        "_meta": {"title": "noise"},
    },
    "2": {"class_type": "LoadImage", "inputs": {"image": "x.png", "upload": "image"}, "_meta": {"title": "pose"}},
    "3": {
        "class_type": "ImageBlend",
        "inputs": {"image1": ["1", 0], "image2": ["2", 0], "blend_factor": 1, "blend_mode": "normal"},
        "_meta": {"title": "blend"},
    },
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "odd": 1}, "_meta": {"title": "output"}},
    "5": {"class_type": "LoraLoader", "inputs": {"lora_name": "fast.safetensors"}, "_meta": {"title": "speed"}},
    "6": {"class_type": "HordeFaceRestore", "inputs": {"detector": "detection_Resnet50_Final.pth"}},
    "7": {"class_type": "TheirOwnNode", "inputs": {"anything": "at all"}, "_meta": {"title": "own"}},
}


@pytest.fixture
def exported(folder: Callable[..., Path]) -> Library:
    manifest = OWN.replace("{noise: EmptyImage}", "{noise: EmptyImage, blend: ImageBlend}")
    classes = {str(node["class_type"]) for node in EXPORT.values()}
    return Library.load(packaged_folder(), folder("own/export", manifest, EXPORT), approved_classes=classes)


def test_what_comfyui_ignores_or_converts_is_a_remark(exported: Library) -> None:
    assert exported.violations == ()
    assert remarks(exported, own_classes(exported)) == [
        "own/export/graph.json:noise:color: ComfyUI takes '7' as 7",
        "own/export/graph.json:pose:upload: LoadImage has no such input and ignores it",
        "own/export/graph.json:own:: TheirOwnNode is unknown to stock ComfyUI; it is checked when your engine starts",
    ]


def test_a_node_class_of_an_owners_own_comfyui_is_no_mistake(exported: Library) -> None:
    def told(object_info: ObjectInfo) -> list[str]:
        return [sentence for sentence in audit_library(exported, object_info)["own/export"] if "Their" in sentence]

    assert told(snapshot()) == ["own:: the engine has no node class TheirOwnNode"]
    assert told(own_classes(exported)) == []


def test_files_that_a_template_names_must_be_there_but_for_those_the_worker_fetches(exported: Library) -> None:
    here = {"x.png"}
    assert files_absent(exported, lambda named: named.file in here) == {
        "own/export": ["speed:lora_name: needs loras/fast.safetensors, not here"]
    }
    assert files_absent(Library.load(), lambda _: False) == {}


def test_an_engine_says_which_files_are_there(exported: Library) -> None:
    def engine(*loras: str) -> ObjectInfo:
        loader = {"input": {"required": {"lora_name": [list(loras)]}}, "output": ["MODEL", "CLIP"]}
        return {**snapshot(), "LoraLoader": loader}

    assert files_absent(exported, partial(is_listed, engine("fast.safetensors"))) == {}
    assert list(files_absent(exported, partial(is_listed, engine("slow.safetensors")))) == ["own/export"]


def test_a_running_worker_leaves_a_template_off_while_its_engines_lack_a_file_it_names(exported: Library) -> None:
    def why_off(lora: str) -> str:
        loader = {"input": {"required": {"lora_name": [[lora]]}}, "output": ["MODEL", "CLIP"]}
        library.audit([("0.3.75", {**snapshot(), "LoraLoader": loader})])
        return library().disabled["own/export"]

    library, absent = LiveLibrary(exported), "speed:lora_name: needs loras/fast.safetensors, not here"
    assert absent in why_off("slow.safetensors")
    assert absent not in why_off("fast.safetensors")
    assert absent in why_off("slow.safetensors")
