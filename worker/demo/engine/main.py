"""Run the scripted engine, in ComfyUI's place and with ComfyUI's command line.

python main.py --listen 127.0.0.1 --port P [ComfyUI's other arguments] [--script FILE] [--object-info FILE]
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# The launcher puts this folder first; the package it belongs to must be found instead.
sys.path[0] = str(Path(__file__).resolve().parents[3])

import uvicorn  # noqa: E402 - after the path is right
from loguru import logger  # noqa: E402

from worker.demo.engine import SCRIPT_VARIABLE  # noqa: E402
from worker.demo.engine.script import FaultKind, claim_fault, read_script  # noqa: E402
from worker.demo.engine.server import Engine  # noqa: E402
from worker.workflows.node_classes import SNAPSHOT_FILE  # noqa: E402

#: Names by which the worker asks ComfyUI to load a node pack, and what the names of its node classes begin with.
PACKS = {"websocket_image_save.py": "SaveImageWebsocket", "horde_nodes.py": "Horde"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--disable-all-custom-nodes", action="store_true")
    parser.add_argument("--whitelist-custom-nodes", nargs="*", default=[])
    parser.add_argument("--script", type=Path, default=os.environ.get(SCRIPT_VARIABLE))
    parser.add_argument("--object-info", type=Path, default=SNAPSHOT_FILE)
    return parser.parse_known_args()[0]


def node_classes(file: Path, packs: list[str]) -> dict[str, Any]:
    """The file's node classes without those of node packs that are not loaded."""
    classes: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    absent = tuple(beginning for pack, beginning in PACKS.items() if pack not in packs)
    return {name: info for name, info in classes.items() if not name.startswith(absent)}


def main() -> None:
    arguments = parse_arguments()
    packs = arguments.whitelist_custom_nodes if arguments.disable_all_custom_nodes else list(PACKS)
    script = read_script(arguments.script)
    if claim_fault(arguments.script, frozenset({FaultKind.START_FAILURE})):
        logger.error("RuntimeError: Found no NVIDIA driver on your system.")
        sys.exit(1)
    time.sleep(script.start_seconds)
    engine = Engine(node_classes(arguments.object_info, packs), arguments.script)
    token = os.environ.pop("HORDE_ENGINE_TOKEN", "") if "horde_nodes.py" in packs else ""
    uvicorn.run(
        engine.application(token),
        host=arguments.listen,
        port=arguments.port,
        loop="asyncio",
        http="h11",
        ws="wsproto",
        ws_ping_interval=None,
        # As long as ComfyUI keeps idle connections: who uses one must not meet its end.
        timeout_keep_alive=75,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
