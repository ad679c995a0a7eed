"""In what ComfyUI's versions differ for who talks to them, as data: the scripted engine speaks either.

Measured on the trees of 0.3.75 and 0.33.0. Flags that the worker never gives are left out, so that giving one by
mistake ends the engine here as it would there.
"""

import argparse
from dataclasses import dataclass, field

from worker.demo.engine.graph import NO_SUCH_NODE

#: Flags of both: name → number of values.
COMMON_FLAGS: dict[str, int | str] = {
    "--base-directory": 1, "--extra-model-paths-config": "+", "--disable-auto-launch": 0, "--disable-api-nodes": 0,
    "--disable-metadata": 0, "--database-url": 1, "--front-end-root": 1, "--disable-all-custom-nodes": 0,
    "--whitelist-custom-nodes": "+", "--directml": "?", "--reserve-vram": 1, "--disable-smart-memory": 0,
    "--use-pytorch-cross-attention": 0,
}  # fmt: skip
CACHES: dict[str, int | str] = {"--cache-classic": 0, "--cache-lru": 1, "--cache-none": 0}
MEMORY_MODES = ("--gpu-only", "--highvram", "--lowvram", "--novram", "--cpu")
#: The name that is given where none is asked for.
OLDER, NEWER = "0.3.75", "0.33.0"


@dataclass(frozen=True)
class Dialect:
    """One version's ways."""

    version: str
    #: type and text of the refusal of a node class that is not there; `{node}`
    no_such_node: tuple[str, str]
    #: of a log line
    log_format: str
    more_flags: dict[str, int | str] = field(default_factory=dict)
    #: jobs are cancelled by `POST /api/jobs/{id}/cancel`, too
    cancels_jobs: bool = False
    #: without `--cache-classic` or `--cache-lru` results of earlier prompts stay
    keeps_results: bool = False
    #: without `--database-url` and `--front-end-root` it does not start beside another, or without their packages
    needs_places: bool = False
    #: what it says of itself beside that
    features: dict[str, object] = field(default_factory=dict)


DIALECTS = {
    OLDER: Dialect(OLDER, NO_SUCH_NODE, log_format="{message}"),
    NEWER: Dialect(
        NEWER,
        ("missing_node_type", "Node '{node}' not found. The custom node may not be installed."),
        log_format="\x1b[32m[{level}]\x1b[0m {message}",
        more_flags={"--disable-dynamic-vram": 0, "--enable-dynamic-vram": 0, "--vram-headroom": 1, "--high-ram": 0},
        cancels_jobs=True,
        keeps_results=True,
        needs_places=True,
        features={
            "supports_model_type_tags": True,
            "extension": {"manager": {"supports_v4": True}},
            "node_replacements": True,
            "assets": False,
        },
    ),
}


def add_flags(parser: argparse.ArgumentParser, dialect: Dialect) -> None:
    """The version's command line."""
    for name, values in {**COMMON_FLAGS, **dialect.more_flags}.items():
        _add(parser, name, values)
    caches, modes = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    for name, values in CACHES.items():
        _add(caches, name, values)
    for name in MEMORY_MODES:
        _add(modes, name, 0)


def _add(group: "argparse._ActionsContainer", name: str, values: int | str) -> None:
    if values == 0:
        group.add_argument(name, action="store_true")
    elif values == 1:
        group.add_argument(name)
    else:
        group.add_argument(name, nargs=values, default=[])
