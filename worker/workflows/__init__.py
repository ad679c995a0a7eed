"""From a payload to a ComfyUI graph. Pure: no I/O but reading template files, no torch, no ComfyUI.

- `types`, `families`, `request`: the vocabulary, and RenderRequest, which everything else reads.
- `payload`: payload → clamped RenderRequest, with `coerce`, `samplers`, `hires`, `prompts`, `prompt_syntax` (what would
  break text encoders), `post_processing`, `qr`.
- `api_export`, `manifest`, `template_reader`, `templates`, `library`, `bind`, `transforms`: the graphs in
  comfy_workflows/ and an owner's folder, checked and compiled.
- `features`, `template_selection`, `graph`, `materialise`: which template serves a request, with which fragments, as
  one graph.
- `node_classes`, `audit`, `template_check`, `capabilities`: what node classes take, what is wrong with templates, and
  which kinds of jobs they can do.
- `auxiliary_files`: files beside the models, and which a request needs.
"""

from pathlib import Path


def packaged_folder() -> Path:
    """The folder comfy_workflows/ that comes with the worker."""
    return Path(__file__).parents[2] / "comfy_workflows"
