"""Which files a node of a graph reads, itself or through the nodes before it. Pure.

An exception of a node names no file; the graph does.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from worker.errors import Addition, AdditionKind

Graph = Mapping[str, Mapping[str, Any]]

#: Inputs of ComfyUI's loaders, and of the node pack's, that are names of model files.
FILE_INPUTS = frozenset({
    "ckpt_name", "unet_name", "vae_name", "clip_name", "clip_name1", "clip_name2", "clip_name3", "control_net_name",
    "model_name", "style_model_name", "config_name", "lora_name",
})  # fmt: skip
LORA_INPUT = "lora_name"
#: What loaders give out besides a diffusion model, by the names of the inputs that take it.
PARTS = {"vae": "VAE", "clip": "text encoder"}
#: ComfyUI takes a name up to the next blank; the weight and the parenthesis after it are its parser's.
_EMBEDDING = re.compile(r"embedding:([^\s,():]+)")
#: No graph of ours is a tenth as deep.
MOST_NODES = 1000


def file_of(graph: Graph, node_id: str) -> tuple[str, str]:
    """Input and name of the file that the node itself loads; two empty texts when it loads none."""
    for name, value in _inputs(graph, node_id).items():
        if name in FILE_INPUTS and isinstance(value, str):
            return name, value
    return "", ""


def additions_of(graph: Graph, node_id: str) -> frozenset[Addition]:
    """The LoRA that the node loads, or the textual inversions that its texts name."""
    found: set[Addition] = set()
    for name, value in _inputs(graph, node_id).items():
        if not isinstance(value, str):
            continue
        if name == LORA_INPUT:
            found.add(Addition(AdditionKind.LORA, value))
        elif name not in FILE_INPUTS:
            found |= embeddings_in(value)
    return frozenset(found)


def embeddings_in(text: str) -> frozenset[Addition]:
    """The textual inversions that a text names."""
    return frozenset(Addition(AdditionKind.TEXTUAL_INVERSION, name) for name in _EMBEDDING.findall(text))


def all_additions(graph: Graph) -> frozenset[Addition]:
    """Every LoRA and textual inversion of a graph."""
    return frozenset(addition for node_id in graph for addition in additions_of(graph, node_id))


def source_of(graph: Graph, node_id: str, part: str) -> str:
    """The name of the file from which a node gets a part: follow the input of this name back to its loader."""
    for _ in range(MOST_NODES):
        link = _inputs(graph, node_id).get(part)
        if not (isinstance(link, list | tuple) and link and isinstance(link[0], str)):
            return file_of(graph, node_id)[1]
        node_id = link[0]
    return ""


def files_behind(graph: Graph, node_id: str) -> Iterator[tuple[str, str]]:
    """Input and name of each file that this node or one before it loads, the nearest first."""
    waiting, seen = [node_id], {node_id}
    while waiting and len(seen) <= MOST_NODES:
        current = waiting.pop(0)
        name, file = file_of(graph, current)
        if file:
            yield name, file
        for value in _inputs(graph, current).values():
            if isinstance(value, list | tuple) and value and isinstance(value[0], str) and value[0] not in seen:
                seen.add(value[0])
                waiting.append(value[0])


def _inputs(graph: Graph, node_id: str) -> Mapping[str, Any]:
    inputs = graph.get(node_id, {}).get("inputs", {})
    return inputs if isinstance(inputs, Mapping) else {}
