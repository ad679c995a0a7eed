"""From a payload to a ComfyUI graph. Pure: no I/O but reading template files, no torch, no ComfyUI.

- `types`, `families`, `request`: the vocabulary, and RenderRequest, which everything else reads.
- `payload`: payload → clamped RenderRequest, with `coerce`, `samplers`, `hires`, `prompts`, `prompt_syntax` (what would
  break text encoders), `post_processing`, `qr`.
- `api_export`, `manifest`, `template_reader`, `templates`, `library`, `bind`: the graphs in
  comfy_workflows/ and an owner's folder, checked and compiled.
- `features`, `template_selection`, `graph`, `materialise`: which template serves a request, with which fragments, as
  one graph.
- `node_classes`, `audit`, `template_check`, `capabilities`: what node classes take, what is wrong with templates, and
  which kinds of jobs they can do.
- `auxiliary_files`: files beside the models, and which a request needs.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BeforeValidator

#: One text or a list of them.
Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class _OwnersLoader(yaml.SafeLoader):
    """Of two equal keys YAML takes the last one, and nobody sees why the first one changes nothing."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} stands there twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


#: libyaml's loader is eight times as fast, but what is nested without end ends the process: for our own files only.
_OUR_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, path: Path) -> Any:
    """The content of a YAML file, by its text. Raises YAMLError, ValueError and RecursionError."""
    loader = _OUR_LOADER if path.is_relative_to(packaged_folder()) else _OwnersLoader
    return yaml.load(text, Loader=loader)  # noqa: S506 - both are safe loaders


def packaged_folder() -> Path:
    """The folder comfy_workflows/ that comes with the worker."""
    return Path(__file__).parents[2] / "comfy_workflows"


def read_packaged(name: str) -> Any:
    """The content of a YAML file of that folder."""
    path = packaged_folder() / name
    return read_yaml(path.read_text("utf-8"), path)
