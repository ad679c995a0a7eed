"""Scripts in the engine's environment, each in a fork of a process that has torch and ComfyUI loaded already.

To load them takes some seconds of a core, more than nearly every script.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("fork_server.py")


@dataclass
class Forks:
    """Scripts for one Python and one ComfyUI tree, which is importable in them, on the CPU."""

    python: Path
    comfyui: Path

    def __enter__(self) -> "Forks":  # noqa: PYI034 - Python 3.10 has no Self
        self._folder = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            [self.python, SERVER, self.comfyui], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()
        self._folder.cleanup()

    def run(self, script: str, *arguments: object) -> Any:
        """What the script prints last, read as JSON. `sys.argv[1:]` are the arguments."""
        stdout, stderr = (Path(self._folder.name) / name for name in ("stdout", "stderr"))
        order = {"script": script, "arguments": [*map(str, arguments)], "stdout": str(stdout), "stderr": str(stderr)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        code = self._server.stdout.readline().strip()
        assert code == "0", stderr.read_text("utf-8") if code else "the process that forks has ended"
        return json.loads(stdout.read_text("utf-8").splitlines()[-1])
