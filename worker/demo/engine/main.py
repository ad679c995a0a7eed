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

from worker.demo.engine import DIALECT_VARIABLE, NODE_CLASSES_FILE, SCRIPT_VARIABLE  # noqa: E402 - after the path is right
from worker.demo.engine.dialect import DIALECTS, OLDER, Dialect, add_flags  # noqa: E402

#: Names by which the worker asks ComfyUI to load a node pack, and what the names of its node classes begin with.
PACKS = {"websocket_image_save.py": "SaveImageWebsocket", "horde_nodes.py": "Horde"}


def parse_arguments() -> argparse.Namespace:
    """Ends the process for a flag that this version does not have, as ComfyUI does."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--dialect", choices=DIALECTS, default=os.environ.get(DIALECT_VARIABLE) or OLDER)
    dialect = DIALECTS[parser.parse_known_args([word for word in sys.argv[1:] if word != "--help"])[0].dialect]
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--script", type=Path, default=os.environ.get(SCRIPT_VARIABLE))
    parser.add_argument("--object-info", type=Path, default=NODE_CLASSES_FILE)
    add_flags(parser, dialect)
    return parser.parse_args()


def node_classes(file: Path, packs: list[str]) -> dict[str, Any]:
    """The file's node classes without those of node packs that are not loaded."""
    classes: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    absent = tuple(beginning for pack, beginning in PACKS.items() if pack not in packs)
    return {name: info for name, info in classes.items() if not name.startswith(absent)}


def refuse_places(arguments: argparse.Namespace, dialect: Dialect) -> None:
    """End as a newer ComfyUI does that is to use its own database beside another, or a page that is not installed."""
    if dialect.needs_places and not (arguments.database_url and arguments.front_end_root):
        sys.exit("[ERROR] Could not acquire lock on database, or comfyui-frontend-package is not installed.")


def main() -> None:
    arguments = parse_arguments()
    # After what ends with --help, which a worker asks for before it starts its engines.
    import uvicorn  # noqa: PLC0415
    from loguru import logger  # noqa: PLC0415

    from worker.demo.engine.script import FaultKind, claim_fault, read_script  # noqa: PLC0415
    from worker.demo.engine.server import Engine  # noqa: PLC0415

    dialect = DIALECTS[arguments.dialect]
    logger.remove()
    logger.add(sys.stderr, format=dialect.log_format, colorize=False)
    refuse_places(arguments, dialect)
    packs = arguments.whitelist_custom_nodes if arguments.disable_all_custom_nodes else list(PACKS)
    script = read_script(arguments.script)
    if claim_fault(arguments.script, frozenset({FaultKind.START_FAILURE})):
        logger.error("RuntimeError: Found no NVIDIA driver on your system.")
        sys.exit(1)
    time.sleep(script.start_seconds)
    keeps = dialect.keeps_results and not arguments.cache_classic
    engine = Engine(node_classes(arguments.object_info, packs), arguments.script, dialect=dialect, keeps_results=keeps)
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
