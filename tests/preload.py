"""Runs Python scripts, each in a fork of this process, which has large packages loaded.

    python preload.py FOLDER PACKAGE…

Listens in the folder, in the background. One connection a script: a line, which is a dict of Python with `argv`, `env`
and `cwd`, comes with standard input, output and error as file descriptors; the pid goes back, and at the end the wait
status. When a connection closes early its script is killed. The server ends when the last connection that says `hold`
has closed.
A package that is missing is passed over: who needs it tells of it as usual. Runs in any Python, on Linux.
"""

import array
import ast
import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import os
import runpy
import selectors
import signal
import socket
import sys
import termios
import threading
import warnings
from typing import Any

#: Longest order: an environment is small.
ORDER_BYTES = 1 << 20


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """An order and its file descriptors; an empty one from a client that was killed before it was whole."""
    numbers = array.array("i")
    text, ancillary, _, _ = connection.recvmsg(ORDER_BYTES, socket.CMSG_SPACE(3 * numbers.itemsize))
    for _, _, data in ancillary:
        numbers.frombytes(data)
    while not text.endswith(b"\n"):
        if not (more := connection.recv(ORDER_BYTES)):
            return {}, list(numbers)
        text += more
    return ast.literal_eval(text.decode()), list(numbers)


def open_standard_streams(*, unbuffered: bool) -> None:
    """As Python does at its start: the files are others than they were then."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = io.TextIOWrapper(
            open(number, "wb" if number else "rb", buffering=0 if unbuffered and number else -1, closefd=False),  # noqa: SIM115
            errors="backslashreplace" if name == "stderr" else "strict",
            line_buffering=name == "stderr" or os.isatty(number),
            write_through=unbuffered,
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run(order: dict[str, Any]) -> None:
    """Be the process that the order asks for, as far as a script sees it."""
    what, *arguments = order["argv"]
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    open_standard_streams(unbuffered=bool(order["env"].get("PYTHONUNBUFFERED")))
    # What Python does with it at its start, and the warnings module itself from there.
    warnings._processoptions(filter(None, order["env"].get("PYTHONWARNINGS", "").split(",")))  # type: ignore[attr-defined]
    code = 0
    try:
        if what in ("-c", "-m"):
            text, *arguments = arguments
            sys.path[0] = "" if what == "-c" else order["cwd"]
            sys.argv = [what, *arguments]
            if what == "-c":
                exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
            else:
                runpy.run_module(text, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = what if os.path.isdir(what) else os.path.dirname(what)  # noqa: PTH112, PTH120 - as Python does
            sys.argv = [what, *arguments]
            runpy.run_path(what, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    # As at Python's end: threads that are waited for, then what was to be done last.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def keep(connection: socket.socket, order: dict[str, Any], descriptors: list[int]) -> None:
    """Run the order in a child, which lives no longer than the connection."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        os.setsid()
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        if os.isatty(0):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        run(order)
    for descriptor in descriptors:
        os.close(descriptor)
    # A client that is gone by now shows below.
    with contextlib.suppress(OSError):
        connection.sendall(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        if ended not in {key.fileobj for key, _ in selector.select()}:
            os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def serve(folder: str, packages: list[str]) -> None:
    os.chdir(folder)  # the name of a socket is short
    held: set[socket.socket] = set()
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind("preload")
        listener.listen()
        if os.fork():
            os._exit(0)
        os.setsid()
        for name in packages:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        # What is loaded stays: no fork's collector walks it, and so copies its pages.
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not listener:
                    selector.unregister(key.fileobj)
                    held.discard(key.fileobj)  # type: ignore[arg-type]
                    if not held:
                        return
                    continue
                connection, _ = listener.accept()
                order, descriptors = receive(connection)
                if "hold" in order:
                    held.add(connection)
                    selector.register(connection, selectors.EVENT_READ)
                    continue
                if order and not os.fork():
                    listener.close()
                    for other in held:
                        other.close()
                    keep(connection, order, descriptors)
                connection.close()
                for descriptor in descriptors:
                    os.close(descriptor)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
