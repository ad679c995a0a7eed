"""An engine's websocket messages as typed events. Pure: bytes and text in, events out.

Two ways an image arrives: as a raw frame of our node pack, or as a PNG of `SaveImageWebsocket` on an engine without
it; both name the prompt and the node that made them. Everything else that is binary (previews) is no event.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker.engine.error_classifier import Failure
from worker.images import MOST_RENDERED_PIXELS, RawImage
from worker.untrusted.json_reader import JsonBounds, read_json_object
from worker.untrusted.pictures import open_picture

#: The raw frame of `HordeImageOutput`.
RAW_IMAGE_EVENT = 1001
#: ComfyUI's image with metadata: sent to clients that announced `supports_preview_metadata`.
IMAGE_WITH_METADATA_EVENT = 4
#: A failure's message holds the whole graph's inputs and a traceback; a megabyte is far above what was seen.
MESSAGE_BOUNDS = JsonBounds(max_bytes=16 * 1024 * 1024)
#: Characters of what a node says of its failure. It may repeat what a requester sent, and is searched for many words.
LONGEST_FAILURE = 4000
#: No card has more memory.
MOST_MEMORY_BYTES = 2**50
#: The first message of a client that wants attributed images.
FEATURE_FLAGS = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})


@dataclass(frozen=True)
class Started:
    """The engine began this prompt."""

    prompt_id: str


@dataclass(frozen=True)
class Progress:
    """A node has done `value` of `maximum` steps; 0 of 0 when it begins. `node_id` is empty when the prompt begins."""

    prompt_id: str
    node_id: str
    value: float = 0
    maximum: float = 0


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of the card that a prompt's sampling used beside the weights, and the card's total. Bytes."""

    used: int
    total: int


@dataclass(frozen=True)
class ImageMade:
    """One finished image. `count` is the size of its batch, 0 where the engine does not tell."""

    prompt_id: str
    node_id: str
    index: int
    count: int
    image: RawImage
    #: None where the engine can't measure it, or sampled nothing
    memory: MemoryNeed | None = None


@dataclass(frozen=True)
class Finished:
    """The prompt has left the engine, successful or not; no more events follow."""

    prompt_id: str


@dataclass(frozen=True)
class Failed:
    """A node raised."""

    prompt_id: str
    failure: Failure


@dataclass(frozen=True)
class Interrupted:
    """The prompt was stopped."""

    prompt_id: str


Event = Started | Progress | ImageMade | Finished | Failed | Interrupted


def parse_text(message: str) -> Event | None:
    """A JSON message as an event; None if it concerns no prompt or is of no known kind."""
    try:
        envelope = read_json_object(message, MESSAGE_BOUNDS)
        data = envelope["data"]
        prompt_id = data["prompt_id"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(prompt_id, str):
        return None
    match envelope.get("type"):
        case "execution_start":
            return Started(prompt_id)
        case "executing" if data.get("node") is None:
            return Finished(prompt_id)
        case "executing":
            return Progress(prompt_id, str(data["node"]))
        case "progress":
            return Progress(
                prompt_id, str(data.get("node") or ""), _number(data.get("value")), _number(data.get("max"))
            )
        case "execution_error":
            return Failed(prompt_id, read_failure(data))
        case "execution_interrupted":
            return Interrupted(prompt_id)
        case _:
            return None


def _number(value: Any) -> float:
    """Steps as a number; 0 for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) and value >= 0 else 0


def read_failure(data: Mapping[str, Any]) -> Failure:
    """What ComfyUI tells of an exception, in an event or in its history."""
    return Failure(
        exception_type=str(data.get("exception_type", "")),
        message=str(data.get("exception_message", ""))[:LONGEST_FAILURE].strip(),
        node_type=str(data.get("node_type", "")),
        node_id=str(data.get("node_id", "")),
    )


def parse_binary(message: bytes) -> ImageMade | None:
    """A binary message as a finished image; None for previews. Raises ValueError for a damaged frame."""
    try:
        event, header_length = struct.unpack_from(">II", message)
        if event not in (RAW_IMAGE_EVENT, IMAGE_WITH_METADATA_EVENT):
            return None
        header = read_json_object(message[8 : 8 + header_length], MESSAGE_BOUNDS)
        body = message[8 + header_length :]
        if event == RAW_IMAGE_EVENT:
            return _raw_image(header, body)
        if header.get("image_type") != "image/png" or not isinstance(header.get("prompt_id"), str):
            return None
        picture = open_picture(body, formats=("PNG",), most_pixels=MOST_RENDERED_PIXELS)
        image = RawImage.from_pillow(picture)
        return ImageMade(header["prompt_id"], str(header["node_id"]), index=-1, count=0, image=image)
    except (struct.error, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged image frame of {len(message)} bytes: {error!r}") from error


def _raw_image(header: Mapping[str, Any], body: bytes) -> ImageMade:
    """Raises ValueError or KeyError for a header that `HordeImageOutput` does not write."""
    width, height, index, count = (header[name] for name in ("width", "height", "index", "count"))
    # `type`, as True is an int as well.
    if any(type(number) is not int for number in (width, height, index, count)) or not 0 <= index < count:
        raise ValueError("an image frame with odd numbers")
    if header["mode"] not in ("L", "RGB", "RGBA") or not isinstance(header["prompt_id"], str):
        raise ValueError("an image frame of no known mode or prompt")
    image = RawImage(width, height, header["mode"], body)
    image.check()
    return ImageMade(header["prompt_id"], str(header["node_id"]), index, count, image, _memory(header.get("memory")))


def _memory(told: Any) -> MemoryNeed | None:
    """What a frame tells of the memory; nothing where that makes no sense, for the picture is good all the same."""
    if not isinstance(told, dict):
        return None
    used, total = told.get("used"), told.get("total")
    # `type`, as True is an int as well.
    if type(used) is not int or type(total) is not int or not 0 <= used <= total <= MOST_MEMORY_BYTES:
        return None
    return MemoryNeed(used, total) if total else None


def queued_ids(queue: Mapping[str, Any]) -> set[str]:
    """Ids of the prompts in an answer of GET /queue; entries of another shape are none."""
    entries = [*_list(queue.get("queue_running")), *_list(queue.get("queue_pending"))]
    return {entry[1] for entry in entries if len(_list(entry)) > 1 and isinstance(entry[1], str)}


def history_messages(entry: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Kind and data of each message in an entry of GET /history; messages of another shape are left out."""
    status = entry.get("status") if isinstance(entry, dict) else None
    for message in _list(status.get("messages") if isinstance(status, dict) else None):
        match message:
            case [str(kind), dict(data)]:
                yield kind, data


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []
