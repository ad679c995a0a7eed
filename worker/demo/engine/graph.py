"""A graph as ComfyUI sees it: whether it is accepted, in which order it runs, what is cached, what comes out. Pure."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Node = Mapping[str, Any]
#: Nodes whose output is never taken from the cache.
SENDERS = frozenset({"HordeImageOutput", "SaveImageWebsocket"})
#: Inputs that name the weights a job runs on.
WEIGHTS = ("ckpt_name", "unet_name")
#: What ComfyUI 0.3.75 says of a node class that it does not have.
NO_SUCH_NODE = ("invalid_prompt", "Cannot execute because node {node} does not exist.")
#: Steps of a sampler that does not say how many.
DEFAULT_STEPS = 4


@dataclass(frozen=True)
class Size:
    """What a node puts out: a batch of pictures, or of latents that become such."""

    width: int
    height: int
    count: int = 1


@dataclass(frozen=True)
class Workflow:
    """A graph with the node classes it is written for."""

    nodes: Mapping[str, Node]
    classes: Mapping[str, Mapping[str, Any]]
    #: type and text of the refusal where a node class is not there
    no_such_node: tuple[str, str] = NO_SUCH_NODE

    @property
    def outputs(self) -> list[str]:
        return [id_ for id_, node in self.nodes.items() if self.classes[node["class_type"]].get("output_node")]

    @cached_property
    def order(self) -> list[str]:
        """The nodes that the outputs need, each after its sources."""
        order: dict[str, None] = {}

        def visit(id_: str) -> None:
            if id_ not in order:
                for source, _ in self._links(id_):
                    visit(source)
                order[id_] = None

        for output in self.outputs:
            visit(output)
        return list(order)

    @cached_property
    def signatures(self) -> dict[str, str]:
        """For every node that runs a digest of all that decides its result, its own id aside."""
        digests: dict[str, str] = {}
        for id_ in self.order:
            inputs = {
                name: [digests[value[0]], value[1]] if _is_link(value) else value
                for name, value in self.nodes[id_]["inputs"].items()
            }
            content = json.dumps([self.nodes[id_]["class_type"], inputs], sort_keys=True)
            digests[id_] = hashlib.sha256(content.encode()).hexdigest()
        return digests

    @property
    def checkpoint(self) -> str:
        """The file with the weights, empty when the graph loads none."""
        named = (self.nodes[id_]["inputs"].get(name) for id_ in self.order for name in WEIGHTS)
        return next((str(name) for name in named if name), "")

    def samples(self, id_: str) -> bool:
        return "latent_image" in self.nodes[id_]["inputs"]

    def steps(self, id_: str) -> int:
        """Steps of a sampler: its own, or those of the schedule it is given."""
        candidates = [id_, *(source for source, _ in self._links(id_))]
        given = (self.nodes[candidate]["inputs"].get("steps") for candidate in candidates)
        return next((steps for steps in given if isinstance(steps, int) and steps > 0), DEFAULT_STEPS)

    def size(self, id_: str, pictures: Mapping[str, Size | None]) -> Size:
        """What a node puts out, traced back along images and latents. Upscaling models keep the size.

        Raises ValueError where no source of the node says a size.
        """
        node = self.nodes[id_]
        inputs = node["inputs"]
        if node["class_type"] == "HordeImageInput" and (picture := pictures.get(inputs["key"])):
            return picture
        source = next(self._pictures_in(id_), None)
        size = self.size(source, pictures) if source else Size(0, 0, 0)
        width, height = inputs.get("width"), inputs.get("height")
        if isinstance(width, int) and isinstance(height, int) and width and height:
            size = Size(width, height, size.count or 1)
        if not size.width:
            raise ValueError(f"{node['class_type']} ({id_}) gets a picture of no known size")
        factor = inputs.get("scale_by", 1)
        count = inputs.get("batch_size", size.count) * inputs.get("amount", 1)
        return Size(round(size.width * factor), round(size.height * factor), count)

    def refusal(self, pictures: Collection[str]) -> dict[str, Any] | None:
        """ComfyUI's 400 answer when the graph is not acceptable, else None. `pictures`: keys handed in so far."""
        for id_, node in self.nodes.items():
            if node.get("class_type") not in self.classes:
                kind, text = self.no_such_node
                return _refusal(kind, text.format(node=node.get("class_type")), f"Node ID '#{id_}'")
        if not self.outputs:
            return _refusal("prompt_no_outputs", "Prompt has no outputs", "")
        errors = {id_: found for id_ in self.order if (found := list(self._mistakes(id_, pictures)))}
        if not errors:
            return None
        details = "\n".join(f"{error['message']}: {error['details']}" for found in errors.values() for error in found)
        node_errors = {
            id_: {"errors": found, "dependent_outputs": self.outputs, "class_type": self.nodes[id_]["class_type"]}
            for id_, found in errors.items()
        }
        return _refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation", details, node_errors)

    def _mistakes(self, id_: str, pictures: Collection[str]) -> Iterator[dict[str, Any]]:
        node = self.nodes[id_]
        for name in self.classes[node["class_type"]]["input"].get("required", {}):
            if name not in node["inputs"]:
                yield _mistake("required_input_missing", "Required input is missing", name, name)
        if node["class_type"] == "HordeImageInput" and node["inputs"].get("key") not in pictures:
            what = f"key - no picture was handed in under {node['inputs'].get('key')!r}"
            yield _mistake("custom_validation_failed", "Custom validation failed for node", what, "key")

    def _links(self, id_: str) -> Iterator[tuple[str, int]]:
        for value in self.nodes[id_]["inputs"].values():
            if _is_link(value):
                yield value[0], value[1]

    def _pictures_in(self, id_: str) -> Iterator[str]:
        for source, output in self._links(id_):
            if self.classes[self.nodes[source]["class_type"]]["output"][output] in ("IMAGE", "LATENT"):
                yield source


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)  # noqa: PLR2004 - node, output


def _mistake(kind: str, message: str, details: str, input_name: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {"input_name": input_name}}


def _refusal(kind: str, message: str, details: str, node_errors: Mapping[str, Any] | None = None) -> dict[str, Any]:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return {"error": error, "node_errors": node_errors or {}}
