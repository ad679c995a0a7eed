"""A whole update, from the list to the switch, killed at random moments: the next one works, and nothing is lost."""

import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.update.switch import FOLDER

KILLS = 50
OLD = {"worker/__init__.py": '__version__ = "1.0.0"\n', "worker/cli.py": "old", "worker/gone.py": "old",
       "horde-bridge.sh": "old", "horde-bridge.cmd": "old", "comfy_workflows/ours.yaml": "old"}  # fmt: skip
NEW = {"worker/__init__.py": '__version__ = "2.0.0"\n', "worker/cli.py": "new", "worker/fresh.py": "new",
       "horde-bridge.sh": "new", "horde-bridge.cmd": "new", "comfy_workflows/ours.yaml": "new"}  # fmt: skip
OWN = {"bridgeData.yaml": "dreamer_name: Fox\n", "models/m.bin": "weights", "comfy_workflows/mine/t.yaml": "mine"}
#: Forks one process for each folder but the first, which tells how long an update takes on this machine; kills it at
#: some moment of that, and runs the update again to its end.
DRIVER = """
import asyncio, os, random, signal, sys, time
from pathlib import Path
from worker.update.stage import look, stage
from worker.update.switch import step

source, *folders = sys.argv[1:]
dice = random.Random(11)

def update(root):
    code = 1
    try:
        os.chdir(root)
        offer = asyncio.run(look(root, source=source, channel="stable", current="1.0.0"))
        asyncio.run(stage(root, offer, lambda *_: None, current="1.0.0"))
        step(root, starting=False)
        code = 0
    finally:
        os._exit(code)

def update_to_the_end(root):
    child = os.fork()
    if child == 0:
        update(root)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, root

first, *others = map(Path, folders)
began = time.monotonic()
update_to_the_end(first)
whole_s = time.monotonic() - began
killed = 0
for folder in others:
    child = os.fork()
    if child == 0:
        update(folder)
    time.sleep(dice.uniform(0.0, 1.2 * whole_s))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
    step(folder, starting=False)  # as the launcher does
    found = (folder / "worker" / "cli.py").read_text(), (folder / "horde-bridge.sh").read_text()
    assert found in (("old", "old"), ("new", "new")), (folder, found)
    if found == ("old", "old"):
        update_to_the_end(folder)
print(killed)
"""


def release() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as packed:
        for name, text in NEW.items():
            member = tarfile.TarInfo(f"horde-bridge-2.0.0/{name}")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    return held.getvalue()


@pytest.fixture
def source() -> Iterator[str]:
    archive = release()
    digest = hashlib.sha256(archive).hexdigest()
    listed = {"version": "2.0.0", "archive": "r.tar.gz", "sha256": digest, "bytes": len(archive)}
    files = {"/r.tar.gz": archive, "/releases.json": json.dumps({"format": 1, "releases": [listed]}).encode()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/releases.json"
    server.shutdown()
    server.server_close()


def test_fifty_updates_killed_at_random_moments_lose_nothing(tmp_path: Path, source: str) -> None:
    folders = [tmp_path / str(number) for number in range(KILLS + 1)]
    for folder in folders:
        for name, text in (OLD | OWN).items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, source, *map(str, folders)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > KILLS / 4
    for folder in folders:
        found = {
            name: file.read_text()
            for file in folder.rglob("*")
            if file.is_file() and not (name := file.relative_to(folder).as_posix()).startswith(FOLDER)
        }
        assert found == NEW | OWN, folder
