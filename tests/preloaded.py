"""A Python whose scripts start at once, since what they import is loaded already (see preload.py).

An engine's start costs nine seconds of a core, seven of them for torch and its like; that of the worker costs more than
one, that of a scripted engine a third of one. Tests start dozens of each.
"""

import array
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import PIL

from worker.commands.program import COMMANDS

if sys.platform != "win32":
    import fcntl
    import termios

#: The device that ComfyUI computes on: `cpu`, or `auto` for the card that torch sees.
DEVICE = os.environ.get("AIWORKER_TEST_DEVICE", "cpu")
SERVER = Path(__file__).with_name("preload.py")
#: What ComfyUI imports at its start and takes longest.
ENGINE_PACKAGES = (
    "aiohttp.web", "alembic.command", "alembic.config", "av", "einops", "kornia", "numpy", "PIL.Image", "psutil",
    "pydantic", "pydantic_settings", "requests", "safetensors.torch", "scipy.integrate", "scipy.ndimage",
    "scipy.optimize", "scipy.stats", "spandrel", "spandrel_extra_arches", "sqlalchemy.orm", "torch",
    "torch._dynamo", "torchaudio", "torchsde", "torchvision", "transformers.models.clip.tokenization_clip",
    "transformers.models.t5.tokenization_t5", "yaml",
)  # fmt: skip
#: What commands, the worker at work, the scripted engine and the scripted safety checker import.
WORKER_PACKAGES = (
    *(f"worker.commands.{where.partition('.')[0]}" for where in COMMANDS.values()), "worker.app.build",
    "worker.app.serving", "worker.dashboard.server", "worker.demo.engine.server", "worker.demo.safety.main",
    "worker.jobs.runner", "worker.scheduling.intake", "tests.stages", "anyio._backends._asyncio", "certifi", "httpcore",
    *(f"PIL.{plugin}" for plugin in PIL._plugins), "uvicorn.lifespan.on", "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.h11_impl", "uvicorn.protocols.websockets.wsproto_impl",
)  # fmt: skip
#: Stands for a process of the server: hands it what it was started with, hears signals for it, and ends as it does.
#: Modules written in C, since those above them take as long to import as all the rest.
CLIENT = """
import _signal, _socket, array, os, sys

folder, python, *argv = sys.argv[1:]
if not argv or (argv[0].startswith("-") and argv[0] not in ("-c", "-m")):
    os.execv(python, [python, *argv])
connection = _socket.socket(_socket.AF_UNIX)
connection.connect(f"/proc/self/fd/{os.open(folder, os.O_RDONLY)}/preload")

def told():
    text = b""
    while (letter := connection.recv(1)) not in (b"", b"\\n"):
        text += letter
    return int(text)

order = ascii({"argv": argv, "env": dict(os.environ), "cwd": os.getcwd()}).encode() + b"\\n"
standard = array.array("i", [0, 1, 2])
sent = connection.sendmsg([order], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, standard)])
connection.sendall(order[sent:])
child = told()
for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
    _signal.signal(number, lambda number, _: os.kill(child, number))
status = told()
if os.WIFSIGNALED(status):
    number = os.WTERMSIG(status)
    if number != _signal.SIGKILL:
        _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)
os._exit(os.waitstatus_to_exitcode(status))
"""


class Forked:
    """A process of a server, for who needs its own pid; as far as tests use it what `subprocess.Popen` is."""

    def __init__(
        self, folder: Path, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], standard: Sequence[int]
    ) -> None:
        self.returncode: int | None = None
        self._connection = _connect(folder)
        order = ascii({"argv": list(argv), "env": dict(env), "cwd": str(cwd)}).encode() + b"\n"
        descriptors = array.array("i", standard)
        sent = self._connection.sendmsg([order], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        self._connection.sendall(order[sent:])
        self._lines = self._connection.makefile("rb")
        self.pid = int(self._lines.readline())

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._lines.readline()))
            self._lines.close()
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    python: Path, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> "subprocess.Popen[bytes] | Forked":
    """A process in a session of its own, which is on the terminal that its standard input is, if it is one.

    `python` may be one of `preloaded`.
    """
    if python.with_name("preload").exists():
        return Forked(python.parent, argv, cwd=cwd, env=env, standard=(stdin, stdout, stderr))
    return subprocess.Popen(
        [python, *argv], cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
        preexec_fn=partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0) if os.isatty(stdin) else None,  # noqa: PLW1509 - no lock
    )  # fmt: skip


def _connect(folder: Path) -> socket.socket:
    """The name of a socket is short: it is reached by the folder's descriptor."""
    connection = socket.socket(socket.AF_UNIX)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/preload")
    finally:
        os.close(descriptor)
    return connection


@contextmanager
def preloaded(
    python: Path, shared: Path, packages: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """This `python`, as a program that runs scripts by the server in the folder `shared`.

    Processes that share the folder share the server; the first to come starts it, and it ends after the last.
    """
    shared.mkdir(exist_ok=True)
    client, program = shared / "client.py", shared / "python"
    with (shared / "lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        if not program.exists():
            # It goes on by itself, and must hold nothing open that others wait for the end of.
            subprocess.run(
                [python, SERVER, shared, *packages], check=True, timeout=60,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            client.write_text(CLIENT, "utf-8")
            program.write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -IS "{client}" "{shared}" "{python}" "$@"\n', "utf-8"
            )
            program.chmod(0o700)
    with _connect(shared) as held:
        held.sendall(b'{"hold": True}\n')
        yield program
