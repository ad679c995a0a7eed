"""Every mistake an author can make is found, all of them at once, each with its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.errors import TemplateError
from worker.workflows.graph import Input, Link
from worker.workflows.template_reader import MAX_FILE_BYTES, read_fragment, read_template

Folder = Callable[..., Path]

MANIFEST = """
description: Nothing but noise.
serves: {models: [A Model], modes: [txt2img]}
nodes: {noise: EmptyImage}
bind:
  noise.width: width
  noise.height: height
  noise.batch_size: batch
  noise.color: {value: 7}
ports: {image: noise.0}
outputs: [output]
ignores: [prompt, negative_prompt, seed, steps, cfg, sampler, scheduler, denoise, clip_skip]
"""


def graph(**inputs: Any) -> dict[str, Any]:
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0, **inputs},
            "_meta": {"title": "noise"},
        },
        "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}, "_meta": {"title": "output"}},
    }


def violations(folder: Folder, manifest: str, content: Any, *, fragment: bool = False) -> list[str]:
    path = folder("own/noise", manifest, content) / "own/noise"
    with pytest.raises(TemplateError) as raised:
        (read_fragment if fragment else read_template)(path, "own/noise")
    assert raised.value.remedy
    return list(raised.value.violations)


def test_a_template_is_read_with_titles_resolved_and_constants_set(folder: Folder) -> None:
    template = read_template(folder("own/noise", MANIFEST, graph()) / "own/noise", "own/noise")
    assert template.ports == {"image": Link("1", 0)}
    assert template.outputs == {"2"}
    assert [binding.place for binding in template.bindings] == [
        Input("1", "width"),
        Input("1", "height"),
        Input("1", "batch_size"),
    ]
    assert template.graph["1"]["inputs"]["color"] == 7
    assert template.files == frozenset()


@pytest.mark.parametrize(
    ("old", "new", "violation"),
    [
        ("nodes: {noise: EmptyImage}", "nodes: {noise: KSampler}", "graph.json:noise: is a EmptyImage; the manifest"),
        ("nodes: {noise: EmptyImage}", "nodes: {nose: EmptyImage}", "manifest.yaml:nodes.nose: the graph has no node"),
        ("noise.width: width", "noise.widht: width", "bind.noise.widht: the node has no such input; it has width"),
        ("noise.width: width", "noise.widht: width", "; is width meant?"),
        ("outputs: [output]", "outputs: [outptu]", "has no node titled outptu; is output meant?"),
        ("noise.width: width", "nose.width: width", "bind.nose.width: nose.width is not title.input"),
        ("noise.width: width", "noise.width: widht", "bind.noise.width: there is no field widht"),
        ("noise.width: width", "noise.width: {from: width, via: x}", "there is no transform 'x'"),
        ("noise.width: width", "noise.width: {form: width}", "manifest.yaml:bind.noise.width"),
        ("{value: 7}", "{value: [7]}", "manifest.yaml:bind.noise.color"),
        ("{image: noise.0}", "{image: noise.x}", "ports.image: noise.x is not title.number"),
        ("{image: noise.0}", "{model: noise.0}", "manifest.yaml:ports: the port image is missing"),
        ("outputs: [output]", "outputs: [out]", "manifest.yaml:outputs: the graph has no node titled out"),
        ("ignores: [prompt,", "ignores: [prompt, nonsense,", "ignores: nonsense is neither a field nor a feature"),
        ("ignores: [prompt,", "ignores: [", "bind: nothing reads prompt; bind it, or list it in ignores"),
        (
            "models: [A Model]",
            "families: [[a]]",
            "manifest.yaml:serves.families.0: Value error, ['a'] is no",
        ),
        ("models: [A Model]", "families: [{a: b}]", "manifest.yaml:serves.families.0: Value error, {'a': 'b'} is no"),
        ("models: [A Model], ", "", "manifest.yaml:serves: name families, models or workflows"),
        ("[txt2img]", "[txt2video]", "manifest.yaml:serves.modes.0: Input should be"),
        ("description:", "describtion:", "manifest.yaml:describtion: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_a_manifest_is_found(folder: Folder, old: str, new: str, violation: str) -> None:
    assert old in MANIFEST
    found = violations(folder, MANIFEST.replace(old, new), graph())
    assert any(violation in line for line in found), found
    assert all(line.startswith("own/noise/") for line in found)


@pytest.mark.parametrize(
    ("content", "violation"),
    [
        ({"nodes": [], "links": []}, "graph.json:: is a workflow of the editor; export it with"),
        ([], "graph.json:: is not an API export"),
        ({"1": {"class_type": "X"}}, "graph.json:: is not an API export"),
        ({"1": {"class_type": "X", "inputs": {}, "_meta": []}}, "graph.json:: is not an API export"),
        ({**graph(), "3": {**graph()["1"], "_meta": {"title": ["a"]}}}, "graph.json:: '3' is no node"),
        ({**graph(), "3": {**graph()["1"], "_meta": {"title": None}}}, "graph.json:: '3' is no node"),
        ({"prompt": graph()}, "graph.json:: wraps the graph, which lies under prompt; keep that part alone"),
        ({"input": {"workflow": graph(), "images": []}}, "wraps the graph, which lies under input.workflow;"),
        ({"workflow": {"nodes": []}, "output": graph()}, "wraps the graph, which lies under output;"),
        ({**graph(), "extra_data": {"client": 1}}, "graph.json:: 'extra_data' is no node: it has no class_type and"),
        ({"1": {"class_type": "X", "inputs": {}}}, "graph.json:: has no titles, like exports of ComfyUI before 2024;"),
        ("{", "graph.json:: is not well-formed"),
        ('{"1": {"class_type": "X", "inputs": {"a": NaN}}}', "graph.json:: is not well-formed: NaN is no number"),
        ("[" * 100_000, "graph.json:: is not well-formed"),
        ('"' + "x" * MAX_FILE_BYTES + '"', "graph.json:: is larger than"),
        (graph(width=["9", 0]), "graph.json:noise:width: comes from node 9, which does not exist"),
        (graph(width=["2", 0]), "bind.noise.width: is fed by another node"),
        (
            {**graph(), "3": graph()["1"]},
            "graph.json:noise: the nodes 1 and 3 have this title;",
        ),
        (graph(tint=["2", 0]), "manifest.yaml:outputs: output feeds noise:tint, so it is not the last node"),
    ],
)
def test_a_mistake_in_a_graph_is_found(folder: Folder, content: Any, violation: str) -> None:
    found = violations(folder, MANIFEST, content)
    assert any(violation in line for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "violation"),
    [
        ("outputs: [output]", "outputs: [noise, output]", "outputs: noise is left out, but the port image is there"),
        (
            "outputs: [output]",
            "outputs: [noise, output]",
            "bind.noise.width: this node is one of the outputs, which are left out",
        ),
        (
            "noise.color: {value: 7}",
            "noise.color: qr.x",
            "bind.noise.color: not every job has qr.x",
        ),
        (
            "noise.color: {value: 7}",
            "noise.color: {from: qr.x, via: negate}",
            "bind.noise.color: not every job has qr.x",
        ),
    ],
)
def test_what_would_fail_with_every_job_is_found(folder: Folder, old: str, new: str, violation: str) -> None:
    assert old in MANIFEST
    found = violations(folder, MANIFEST.replace(old, new), graph())
    assert any(violation in line for line in found), found


@pytest.mark.parametrize(
    ("field", "serves"),
    [
        ("source.key", "modes: [img2img]"),
        ("source.key", "modes: [txt2img], features: [control]"),
        ("control_type", "modes: [txt2img], features: [control_map]"),
        ("control_file", "modes: [txt2img], features: [control]"),
        ("control_file", "modes: [txt2img], workflows: [qr_code]"),
        ("qr.text", "modes: [txt2img], workflows: [qr_code]"),
    ],
)
def test_a_field_that_not_every_job_has_is_for_templates_whose_jobs_have_it(
    folder: Folder, field: str, serves: str
) -> None:
    bound = MANIFEST.replace("noise.color: {value: 7}", f"noise.color: {field}")
    if field == "source.key":
        bound = bound.replace("noise.color: source.key", "picture.key: source.key")
        bound = bound.replace("{noise: EmptyImage}", "{noise: EmptyImage, picture: HordeImageInput}")
    content = {**graph(), "3": {"class_type": "HordeImageInput", "inputs": {"key": ""}, "_meta": {"title": "picture"}}}
    assert violations(folder, bound, content)[0].endswith(NOT_EVERY_JOB[field])
    read_template(folder("own/noise", bound.replace("modes: [txt2img]", serves), content) / "own/noise", "own/noise")


NOT_EVERY_JOB = {
    "source.key": "or mask or picture or remix or repeat or source",
    "control_type": "not every job has control_type, only those with annotate or control or control_map",
    "control_file": "not every job has control_file, only those with annotate or control",
    "qr.text": "not every job has qr.text",
}


@pytest.mark.parametrize(
    ("class_type", "name"), [("LoadImage", "image"), ("LoadImageMask", "image"), ("HordeImageInput", "image")]
)
def test_a_requesters_picture_is_bound_to_the_node_that_can_read_it_alone(
    folder: Folder, class_type: str, name: str
) -> None:
    manifest = MANIFEST.replace("noise.color: {value: 7}", f"picture.{name}: source.key")
    manifest = manifest.replace("{noise: EmptyImage}", f"{{noise: EmptyImage, picture: {class_type}}}")
    content = {**graph(), "3": {"class_type": class_type, "inputs": {name: "x.png"}, "_meta": {"title": "picture"}}}
    found = violations(folder, manifest.replace("[txt2img]", "[img2img]"), content)
    what = "only HordeImageInput.key reads source.key: a job's pictures are no files"
    assert found == [f"own/noise/manifest.yaml:bind.picture.{name}: {what}"]


def untitled(content: dict[str, Any]) -> dict[str, Any]:
    return {node_id: {"class_type": node["class_type"], "inputs": node["inputs"]} for node_id, node in content.items()}


@pytest.mark.parametrize(
    ("change", "content"),
    [
        (("", ""), untitled(graph())),
        (("", ""), {"prompt": graph()}),
        (("", ""), {"nodes": []}),
        (("", ""), {**graph(), "3": graph()["1"]}),
        (("{noise: EmptyImage}", "{noise: EmptyImage, second: EmptyImage}"), {**graph(), "3": graph()["1"]}),
        (("{noise: EmptyImage}", "{nose: EmptyImage}"), None),
        (("noise.width: width", "noise.widht: width"), graph()),
        (("noise.width: width", "noise.width: widht"), graph()),
        (("description:", "describtion:"), None),
    ],
)
def test_one_mistake_is_told_in_one_sentence(
    folder: Folder, change: tuple[str, str], content: dict[str, Any] | None
) -> None:
    manifest = MANIFEST.replace(*change)
    if content is None:
        # Two sentences of one mistake stand for what is missing and what is there instead.
        renamed = manifest.replace("noise.", "nose.").replace("describtion: N", "description: n\ndescribtion: N")
        manifest, content = renamed, graph()
    assert len(violations(folder, manifest, content)) == 1


def test_everything_wrong_is_reported_at_once(folder: Folder) -> None:
    broken = MANIFEST.replace("noise.width", "nose.width").replace("image: noise.0", "model: noise.0")
    found = violations(folder, broken.replace("[output]", "[out]"), graph())
    assert len(found) == 3  # the title, the port, the output


def test_missing_files_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as raised:
        read_template(tmp_path, "own/none")
    files = [violation.split(":")[0] for violation in raised.value.violations]
    assert "own/none/graph.json" in files
    assert "own/none/manifest.yaml" in files


@pytest.mark.parametrize("manifest", ["", "[]", "a: [", "\t"])
def test_a_manifest_that_is_no_mapping_is_found(folder: Folder, manifest: str) -> None:
    assert any(line.startswith("own/noise/manifest.yaml:") for line in violations(folder, manifest, graph()))


FRAGMENT = """
description: Inverts the picture.
when: tiling
order: 500
nodes: {invert: ImageInvert}
in: {image: invert.image}
out: {image: invert.0}
"""
INVERT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "only for the editor"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}, "_meta": {"title": "invert"}},
}


def test_a_fragment_keeps_the_nodes_its_manifest_names(folder: Folder) -> None:
    fragment = read_fragment(folder("own/noise", FRAGMENT, INVERT) / "own/noise", "own/noise")
    assert list(fragment.graph) == ["2"]
    assert fragment.takes == {"image": (Input("2", "image"),)}
    assert fragment.gives == {"image": Link("2", 0)}
    assert fragment.ids(3) == {"2": "noise-3"}


@pytest.mark.parametrize(
    ("old", "new", "violation"),
    [
        ("in: {image: invert.image}", "", "graph.json:invert:image: comes from node 1, which is not in `nodes`"),
        ("in: {image: invert.image}", "in: {image: x.image}", "in.image: x.image is not title.input"),
        ("out: {image: invert.0}", "out: {image: x.0}", "out.image: x.0 is not title.number"),
        ("when: tiling", "when: full_moon", "manifest.yaml:when: Input should be"),
        ("when: tiling", "when: tiling\neach: prompt", "manifest.yaml:each: Input should be"),
        ("out:", "bind: {invert.image: item.file}\nout:", "only a fragment with `each` has an item"),
        ("out:", "bind: {invert.image: source.key}\nout:", "bind.invert.image: not every job has source.key"),
        ("out:", "each: loras\nbind: {invert.image: item.trigger}\nout:", "not every job has item.trigger"),
    ],
)
def test_a_mistake_in_a_fragment_is_found(folder: Folder, old: str, new: str, violation: str) -> None:
    assert old in FRAGMENT
    found = violations(folder, FRAGMENT.replace(old, new), INVERT, fragment=True)
    assert any(violation in line for line in found), found


@pytest.mark.parametrize(
    ("data", "violation"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "graph.json:: is a picture; open it in ComfyUI's editor and export it"),
        (b"{\xfc}", "graph.json:: is no text in UTF-8 (byte 1); save it as UTF-8"),
    ],
)
def test_a_graph_that_is_no_text_is_told_in_one_sentence(folder: Folder, data: bytes, violation: str) -> None:
    path = folder("own/noise", MANIFEST, graph()) / "own/noise"
    (path / "graph.json").write_bytes(data)
    with pytest.raises(TemplateError) as raised:
        read_template(path, "own/noise")
    [told] = raised.value.violations
    assert violation in told


def test_a_graph_as_powershell_writes_it_is_read(folder: Folder) -> None:
    path = folder("own/noise", MANIFEST, graph()) / "own/noise"
    (path / "graph.json").write_bytes(json.dumps(graph()).encode("utf-16"))
    assert read_template(path, "own/noise").outputs == {"2"}
