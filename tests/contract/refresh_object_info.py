"""Write worker/workflows/object_info.json anew: what the node classes of ComfyUI and of our pack take and give.

    runtime/worker/bin/python -m tests.contract.refresh_object_info [--comfyui DIR] [--python FILE] [--check | --newer]

To be run when ComfyUI's pin or the node pack changes; `git diff` then shows what that means for templates. It starts
the engine with a folder of empty files, by whose name the choices that are files are recognised. `--check` writes
nothing and fails when the snapshot is stale. `--newer` writes object_info_newer.json instead: of a newer version
(`--comfyui`, `--python`) the classes that templates use which need one, and the fragments that go with them.
"""

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.newer_comfyui import NEWER_SNAPSHOT_FILE
from worker.workflows.audit import suited
from worker.workflows.library import Library
from worker.workflows.node_classes import ANY_FILE, SNAPSHOT_FILE, snapshot

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 180
#: A file of this name lies in every folder that the engine lists.
EMPTY_FILE = "empty_file"
ENDINGS = (".safetensors", ".png", ".latent", ".flac", ".mp4", ".glb")
#: What of an input's options decides whether a value is accepted.
KEPT_OPTIONS = ("min", "max", "options", "multiselect")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, default=ROOT / "runtime" / "comfyui")
    parser.add_argument("--python", type=Path, default=ROOT / "runtime" / "engine" / "bin" / "python")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the snapshot is stale")
    parser.add_argument("--newer", action="store_true", help="write the classes of templates that need this version")
    arguments = parser.parse_args()
    if arguments.newer:
        text = render_newer(arguments.comfyui, object_info(arguments.comfyui, arguments.python))
        NEWER_SNAPSHOT_FILE.write_text(text, "utf-8")
        sys.stdout.write(f"{NEWER_SNAPSHOT_FILE}: {len(text)} bytes\n")
        return 0
    text = render(object_info(arguments.comfyui, arguments.python))
    if arguments.check:
        stale = not SNAPSHOT_FILE.is_file() or SNAPSHOT_FILE.read_text("utf-8") != text
        sys.stdout.write(f"{SNAPSHOT_FILE} is {'stale' if stale else 'up to date'}\n")
        return int(stale)
    SNAPSHOT_FILE.write_text(text, "utf-8")
    sys.stdout.write(f"{SNAPSHOT_FILE}: {len(text)} bytes\n")
    return 0


def object_info(comfyui: Path, python: Path) -> dict[str, Any]:
    """The answer of an engine that is started for this one question. Raises RuntimeError when it does not start."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        folders = [path.name for path in (comfyui / "models").iterdir() if path.is_dir()]
        for folder in (*(base / "models" / each for each in folders), base / "input", base / "custom_nodes"):
            folder.mkdir(parents=True)
            for ending in ENDINGS:
                (folder / f"{EMPTY_FILE}{ending}").touch()
        (base / "web").mkdir()
        paths = base / "paths.yaml"
        # JSON is YAML; both folders of custom nodes, and of ours only the pack.
        packs = "\n".join(map(str, (comfyui / "custom_nodes", ROOT / "worker" / "engine")))
        paths.write_text(json.dumps({"packs": {"custom_nodes": packs}}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            str(python), "-B", str(comfyui / "main.py"), "--cpu", "--listen", "127.0.0.1", "--port", str(port),
            "--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:",
            "--front-end-root", str(base / "web"), "--base-directory", str(base),
            "--extra-model-paths-config", str(paths),
            "--disable-all-custom-nodes", "--whitelist-custom-nodes", "websocket_image_save.py", "nodes",
        ]  # fmt: skip
        log = base / "log.txt"
        with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as engine:
            try:
                return _ask(f"http://127.0.0.1:{port}/object_info", engine)
            except RuntimeError:
                sys.stderr.write(log.read_text("utf-8", "replace")[-4000:])
                raise
            finally:
                engine.kill()


def _ask(url: str, engine: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and engine.poll() is None:
        if info := _answer(url):
            return info
        time.sleep(0.2)
    raise RuntimeError("the engine did not start")


def _answer(url: str) -> dict[str, Any]:
    """Nothing, as long as nobody listens."""
    try:
        info: dict[str, Any] = httpx.get(url, timeout=60, trust_env=False).raise_for_status().json()
    except httpx.ConnectError:
        return {}
    return info


def render(info: dict[str, Any]) -> str:
    """One line for each class, sorted, without texts and files."""
    lines = (f"{json.dumps(name)}:{json.dumps(_compact(info[name]), separators=(',', ':'))}" for name in sorted(info))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def render_newer(comfyui: Path, info: dict[str, Any]) -> str:
    """The same of the classes that templates beyond the pinned version use, and all fragments."""
    library = suited(Library.load(), snapshot()).beyond
    used = {name for entry in (*library.templates, *library.fragments) for name in entry.classes}
    [version] = re.findall(r'__version__ = "([0-9.]+)"', (comfyui / "comfyui_version.py").read_text("utf-8"))
    classes = render({name: info[name] for name in used if name in info}).rstrip()
    return f'{{"comfyui":"{version}","node_classes":{classes}}}\n'


def _compact(class_info: dict[str, Any]) -> dict[str, Any]:
    inputs = {
        group: {name: _compact_input(spec) for name, spec in class_info["input"][group].items()}
        for group in ("required", "optional")
        if class_info["input"].get(group)
    }
    return {"input": inputs, "output": class_info["output"], "output_node": class_info["output_node"]}


def _compact_input(spec: list[Any]) -> list[Any]:
    kind = spec[0]
    options = {name: spec[1][name] for name in KEPT_OPTIONS if len(spec) > 1 and name in spec[1]}
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if choices is not None and (not choices or any(EMPTY_FILE in str(choice) for choice in choices)):
        return [ANY_FILE]
    return [kind, options] if options else [kind]


if __name__ == "__main__":
    sys.exit(main())
