"""What a newer ComfyUI has that templates need; contract/refresh_object_info.py writes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEWER_SNAPSHOT_FILE = Path(__file__).with_name("fixtures") / "object_info_newer.json"


def newer_snapshot() -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    """Its version, and those of its node classes that templates use which need one."""
    kept = json.loads(NEWER_SNAPSHOT_FILE.read_text("utf-8"))
    return kept["comfyui"], kept["node_classes"]
