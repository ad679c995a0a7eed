"""A Python for engines that start within a second, since torch and its like are loaded already (see preload.py).

To load them takes seven of the nine seconds of a core that an engine's start costs, and tests start dozens.
"""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The device that ComfyUI computes on: `cpu`, or `auto` for the card that torch sees.
DEVICE = os.environ.get("AIWORKER_TEST_DEVICE", "cpu")
SERVER = Path(__file__).with_name("preload.py")
#: Stands for a process of the server: hands it what it was started with, hears signals for it, and ends as it does.
CLIENT = """
import array, json, os, signal, socket, sys

folder, python, *argv = sys.argv[1:]
if not argv or argv[0].startswith("-"):
    os.execv(python, [python, *argv])
connection = socket.socket(socket.AF_UNIX)
connection.connect(f"/proc/self/fd/{os.open(folder, os.O_RDONLY)}/preload")
order = json.dumps({"argv": argv, "env": dict(os.environ), "cwd": os.getcwd()}).encode() + b"\\n"
standard = array.array("i", [0, 1, 2])
sent = connection.sendmsg([order], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, standard)])
connection.sendall(order[sent:])
lines = connection.makefile()
child = int(lines.readline())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(child, number))
status = int(lines.readline())
if os.WIFSIGNALED(status):
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
os._exit(os.waitstatus_to_exitcode(status))
"""


@contextmanager
def preloaded(python: Path, shared: Path) -> Iterator[Path]:
    """The engine's `python`, as a program that runs scripts by the server in the folder `shared`.

    Processes that share the folder share the server; the first to come starts it, and it ends after the last.
    """
    shared.mkdir(exist_ok=True)
    client, program = shared / "client.py", shared / "python"
    with (shared / "lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        if not program.exists():
            # It goes on by itself, and must hold nothing open that others wait for the end of.
            subprocess.run(
                [python, SERVER, shared], check=True, timeout=60,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            client.write_text(CLIENT, "utf-8")
            program.write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -IS "{client}" "{shared}" "{python}" "$@"\n', "utf-8"
            )
            program.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as held:
        folder = os.open(shared, os.O_RDONLY)
        try:
            held.connect(f"/proc/self/fd/{folder}/preload")
        finally:
            os.close(folder)
        held.sendall(b'{"hold": true}\n')
        yield program
