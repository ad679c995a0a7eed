"""Frames on pipes, and the main loop of the process that answers them.

A frame is a JSON object and some bytes, after the lengths of both. To the child: `{"id", "width", "height", "mode",
"prompt", "model"}` with the pixels. From the child: `{"said": "…"}` whenever something gets on while it starts,
`{"ready": …}` or `{"failed": "…", "remedy": "…"}` once, then for each image `{"id", "nsfw", "csam", "aesthetic"}`,
the last a number or null, or `{"id", "error"}`. The end of the pipe is the end of the child. Standard library only:
both sides use this module.
"""

import json
import os
import queue
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

#: Before each frame: length of the JSON and length of the bytes after it, little-endian.
PREFIX = struct.Struct("<II")
#: Longest JSON of a message.
LONGEST_HEADER = 1024 * 1024
#: Longest body: the Horde's largest image has 3072 x 3072 pixels of 4 bytes, and upscaled sides 4 times as long.
LARGEST_BODY = 640 * 1024 * 1024
#: Images that wait in the child beside the one it checks.
WAITING_IMAGES = 1

Message = Mapping[str, Any]
Say = Callable[[str], None]
#: Takes header and pixels, returns the answer.
CheckImage = Callable[[Message, bytes], Message]


def pack(message: Message, body_bytes: int = 0) -> bytes:
    """A frame without its body."""
    header = json.dumps(message).encode()
    return PREFIX.pack(len(header), body_bytes) + header


def unpack_prefix(prefix: bytes) -> tuple[int, int]:
    """Lengths of header and body. Raises ValueError for lengths above the limits."""
    header_bytes, body_bytes = PREFIX.unpack(prefix)
    if header_bytes > LONGEST_HEADER or body_bytes > LARGEST_BODY:
        raise ValueError("not a frame")
    return header_bytes, body_bytes


def unpack_header(header: bytes) -> dict[str, Any]:
    """Raises ValueError for anything but a JSON object."""
    try:
        message = json.loads(header)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(message, dict):
        raise ValueError("not an object")  # noqa: TRY004 - garbage is garbage
    return message


class Failed(Exception):
    """The child can't check images; `remedy` says what the owner can do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def serve(build: Callable[[Say], CheckImage]) -> None:
    """Answer frames on standard input until it ends. `build` loads what is needed and may raise Failed."""
    pipe_in, pipe_out = _take_pipes()
    lock = threading.Lock()

    def send(message: Message) -> None:
        with lock:
            pipe_out.write(pack(message))

    waiting: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue(WAITING_IMAGES)
    threading.Thread(target=_read, args=(pipe_in, waiting), name="requests", daemon=True).start()
    try:
        check = build(lambda text: send({"said": text}))
    except Failed as error:
        send({"failed": str(error), "remedy": error.remedy})
        sys.exit(1)
    send({"ready": True})
    while True:
        header, pixels = waiting.get()
        try:
            answer = check(header, pixels)
        except Exception as error:  # one image must not end the checker for the others
            answer = {"error": f"{type(error).__name__}: {error}"}
        send({"id": header["id"], **answer})


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take both pipes for the protocol: libraries read from nothing, and what they print goes to the log."""
    pipe_in, pipe_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for each in (pipe_in, pipe_out):
            msvcrt.setmode(each, os.O_BINARY)
    return os.fdopen(pipe_in, "rb"), os.fdopen(pipe_out, "wb", buffering=0)


def _read(pipe: BinaryIO, waiting: "queue.Queue[tuple[dict[str, Any], bytes]]") -> None:
    """Queue every frame; end the process with the pipe, whose end means that the worker is gone."""
    try:
        while len(prefix := pipe.read(PREFIX.size)) == PREFIX.size:
            header_bytes, body_bytes = unpack_prefix(prefix)
            header = unpack_header(pipe.read(header_bytes))
            body = pipe.read(body_bytes)
            if len(body) < body_bytes:
                break
            waiting.put((header, body))
    finally:
        os._exit(0)
