"""What hostile requesters and hosts send: fields of a payload, whole answers to a pop, and pictures, by their kinds.

Kept here because the soak and `bench/hostile.py` send the same. An answer is the bytes of an HTTP response. Large ones
are made on first use.
"""

import functools
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

_FORGED = "\x1b]0;x\x07\nINFO forged"
_LONG_NAME = _FORGED * 400
_NAN, _INFINITE, _HUGE = float("nan"), float("inf"), 10**400

#: Kind → the fields of a payload that it replaces.
PAYLOADS: Mapping[str, Mapping[str, Any]] = {
    "embedding": {"prompt": "embedding: embedding:\nembedding: (embedding:) ### embedding:"},
    "brackets": {"prompt": "(" * 5000 + "embedding:"},
    "nested-weights": {"prompt": "(" * 900 + "fox" + ":1.1)" * 900},
    "weights": {"prompt": "(fox:nan) (fox:1e400) (fox:-1e400) (fox:inf)"},
    "control-characters": {"prompt": f"fox\x00\x08\x1b[2J{_FORGED}\x9b\u202e\ud800"},
    "numbers": {"seed": _HUGE, "cfg_scale": _HUGE, "n_iter": _HUGE},
    "not-a-number": {"seed": _NAN, "cfg_scale": _NAN, "n_iter": _NAN},
    "infinite": {"cfg_scale": _INFINITE, "denoising_strength": -_INFINITE, "n_iter": _INFINITE},
    "n_iter-negative": {"n_iter": -(10**9)},
    "n_iter-text": {"n_iter": "many\n"},
    "n_iter-list": {"n_iter": [[]]},
    "types": {"prompt": {"a": [None]}, "loras": "x", "tis": [[], 7], "karras": "\x00", "post_processing": {"a": 1}},
    "escapes": {"prompt": "a", "loras": [{"name": _FORGED, "model": 1.0}], "workflow": "\x1b[2J"},
    "long-names": {
        "loras": [{"name": _LONG_NAME, "model": _NAN, "clip": _INFINITE}] * 10,
        "tis": [{"name": _LONG_NAME, "strength": _INFINITE, "inject_ti": _LONG_NAME}] * 10,
    },
}
#: More than a requester may name; the server sends five.
EXTRA_PICTURES = 4_000
#: Kinds of pictures after which one byte more comes, and one more, until the client leaves.
ENDLESS = frozenset({"drip"})
#: That byte as a chunk of an HTTP body, and the seconds between two.
CHUNK = b"1\r\nx\r\n"
CHUNK_EVERY_S = 0.5


def with_payload(job: Mapping[str, Any], kind: str) -> bytes:
    """The answer to a pop that brings this job with the hostile fields of a kind of PAYLOADS."""
    return ok(_json({**job, "payload": {**job["payload"], **PAYLOADS[kind]}}))


def with_pictures(job: Mapping[str, Any], address: str) -> bytes:
    """The answer to a pop that brings this job with every picture at one address."""
    fields = {"source_image": address, "source_mask": address, "source_processing": "img2img"}
    return ok(_json({**job, **fields, "extra_source_images": [{"image": address, "strength": 1.0}] * EXTRA_PICTURES}))


def nested(job: Mapping[str, Any]) -> bytes:
    """The answer to a pop that brings this job with a prompt that is no JSON."""
    return ok(_json({**_ids_first(job), "payload": {"prompt": "@"}}).replace(b'"@"', b"[" * 400_000))


def sixty_megabytes(job: Mapping[str, Any]) -> bytes:
    """The answer to a pop that brings this job with an endless prompt."""
    return ok(_json({**_ids_first(job), "payload": {**job["payload"], "prompt": "x" * 60_000_000}}))


#: Kind → the answer to a pop that it makes of a job; the job's ids can still be read.
JOBS: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
    **{kind: functools.partial(with_payload, kind=kind) for kind in PAYLOADS},
    "nested": nested,
    "60-megabytes": sixty_megabytes,
}


def ok(body: bytes, *lines: str) -> bytes:
    """An HTTP answer with this body and these header lines."""
    return "\r\n".join(("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "", "")).encode() + body


def png(width: int, height: int) -> bytes:
    """A PNG of nothing: small on the wire, large in memory."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(min(height, 8192))) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def webp(side: int) -> bytes:
    """A picture of noise with this many pixels a side."""
    out = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(out, "WEBP", quality=50)
    return out.getvalue()


def _packed_twice() -> bytes:
    """400 MB of nothing, never in memory at once here."""
    packer, piece = zlib.compressobj(9, wbits=31), bytes(1_000_000)
    once = b"".join(packer.compress(piece) for _ in range(400)) + packer.flush()
    return ok(gzip.compress(once), "Content-Encoding: gzip, gzip")


def _headers() -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"a:b\r\n" * 15_000 + b"\r\n"


def _interim() -> bytes:
    return b"HTTP/1.1 100 Continue\r\n\r\n" * 60_000


_OPEN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_PICTURES: Mapping[str, Callable[[], bytes]] = {
    "packed-twice": _packed_twice,
    "packed-once": lambda: ok(gzip.compress(png(64, 64)), "Content-Encoding: gzip"),
    "packed-brotli": lambda: ok(b"\x8b\x03", "Content-Encoding: br"),
    "64-megapixels": lambda: ok(png(8000, 8000)),
    "one-row": lambda: ok(png(64_000_000, 1)),
    "largest-honest": lambda: ok(webp(3072)),
    "postscript": lambda: ok(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "endless": lambda: _OPEN + b"10000\r\n" + bytes(65536) + b"\r\n" + CHUNK * 200_000,
    "drip": lambda: _OPEN,
    "headers": _headers,
    "interim": _interim,
    "redirect": lambda: b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n",
    "announces-much": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
}
_EMPTY_HANDED: Mapping[str, Callable[[], bytes]] = {
    "packed-twice": _packed_twice,
    "many-lists": lambda: ok(b"[" + b"[]," * 2_000_000 + b"[]]"),
    "pause": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 99999999\r\n\r\n{}",
    "headers": _headers,
    "interim": _interim,
}
#: Kinds of what hostile hosts give out in the place of a picture, for `picture`.
PICTURES = tuple(_PICTURES)
#: Kinds of answers to a pop that bring no job, for `empty_handed`.
EMPTY_HANDED = tuple(_EMPTY_HANDED)


@functools.cache
def picture(kind: str) -> bytes:
    """A hostile host's answer. Raises KeyError for an unknown kind."""
    return _PICTURES[kind]()


@functools.cache
def empty_handed(kind: str) -> bytes:
    """A hostile answer to a pop. Raises KeyError for an unknown kind."""
    return _EMPTY_HANDED[kind]()


def _ids_first(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job with its ids before what makes its reader stop."""
    return {"id": job["id"], "ids": job["ids"], **job}


def _json(job: Mapping[str, Any]) -> bytes:
    """With numbers that JSON does not know, or that no double holds."""
    return json.dumps(job).replace("Infinity", "1e400").encode()
