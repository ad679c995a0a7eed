"""Scripts in the engine's environment, each in a fork of a process that has torch and ComfyUI loaded already.

To load them takes some seconds of a core, more than nearly every script.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Reads one order a line, and answers each with the exit code of the fork that carried it out.
SERVER = """
import json, os, sys, traceback
import torch
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import comfy.sd

def carry_out(order):
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    code = 0
    try:
        sys.argv[1:] = order["arguments"]
        exec(compile(order["script"], "<script>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    child = os.fork()
    if not child:
        carry_out(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Forks:
    """Scripts for one Python and one ComfyUI tree, which is importable in them, on the CPU."""

    python: Path
    comfyui: Path

    def __enter__(self) -> "Forks":  # noqa: PYI034 - Python 3.10 has no Self
        self._folder = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            [self.python, "-c", SERVER, self.comfyui], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
