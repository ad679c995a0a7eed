"""What the engine says, read as events. The messages were recorded from ComfyUI 0.3.75."""

import contextlib
import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from worker.engine import events
from worker.engine.error_classifier import Failure
from worker.engine.events import (
    Failed,
    Finished,
    ImageMade,
    Interrupted,
    MemoryNeed,
    Progress,
    Started,
    parse_binary,
    parse_text,
)
from worker.images import RawImage

HEADER = {"prompt_id": "p1", "node_id": "3", "index": 1, "count": 2, "width": 2, "height": 1, "mode": "RGB"}
PIXELS = b"\x00\x01\x02\xfd\xfe\xff"
METADATA = {
    "node_id": "4",
    "prompt_id": "p1",
    "display_node_id": "4",
    "parent_node_id": None,
    "real_node_id": "4",
    "image_type": "image/png",
}


def raw_frame(header: Any, body: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack(">II", events.RAW_IMAGE_EVENT, len(encoded)) + encoded + body


def png_frame(metadata: dict[str, Any], picture: Image.Image) -> bytes:
    encoded = json.dumps(metadata).encode()
    out = io.BytesIO()
    picture.save(out, "PNG")
    return struct.pack(">II", events.IMAGE_WITH_METADATA_EVENT, len(encoded)) + encoded + out.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "event"),
    [
        ("execution_start", {"prompt_id": "p1", "timestamp": 1795391775843}, Started("p1")),
        ("executing", {"node": "7", "display_node": "7", "prompt_id": "p1"}, Progress("p1", "7")),
        ("executing", {"node": None, "prompt_id": "p1"}, Finished("p1")),
        ("progress", {"value": 3, "max": 20, "prompt_id": "p1", "node": "7"}, Progress("p1", "7", 3, 20)),
        ("progress", {"value": 3, "max": 20, "prompt_id": "p1", "node": None}, Progress("p1", "", 3, 20)),
        (
            "execution_interrupted",
            {"prompt_id": "p1", "node_id": "7", "node_type": "KSampler", "executed": ["1"], "timestamp": 1},
            Interrupted("p1"),
        ),
        (
            "execution_error",
            {
                "prompt_id": "p1",
                "node_id": "1",
                "node_type": "HordeImageInput",
                "executed": [],
                "exception_message": "cannot identify image file <_io.BytesIO object at 0x7fd673cb3100>\n",
                "exception_type": "PIL.UnidentifiedImageError",
                "traceback": ["…"],
                "current_inputs": {"key": ["k"]},
                "current_outputs": [],
            },
            Failed(
                "p1",
                Failure(
                    "PIL.UnidentifiedImageError",
                    "cannot identify image file <_io.BytesIO object at 0x7fd673cb3100>",
                    "HordeImageInput",
                    "1",
                ),
            ),
        ),
    ],
)
def test_a_message_about_a_prompt_is_an_event(kind: str, data: dict[str, Any], event: events.Event) -> None:
    assert parse_text(json.dumps({"type": kind, "data": data})) == event


@pytest.mark.parametrize(
    "message",
    [
        '{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}, "sid": "abc"}}',
        '{"type": "feature_flags", "data": {"supports_preview_metadata": true, "max_upload_size": 104857600}}',
        '{"type": "execution_cached", "data": {"nodes": ["1"], "prompt_id": "p1", "timestamp": 1}}',
        '{"type": "execution_success", "data": {"prompt_id": "p1", "timestamp": 1}}',
        '{"type": "executing", "data": {"node": "7"}}',
        *(
            f'{{"type": "{kind}", "data": {{"node": "7", "value": 1, "max": 2, "prompt_id": {odd}}}}}'
            for kind in ("execution_start", "executing", "progress", "execution_error", "execution_interrupted")
            for odd in ("7", "null", "[]", "{}", "true", '["p1"]')
        ),
        '{"type": "executing", "data": null}',
        '{"type": "crystools.monitor", "data": [1, 2]}',
        '["no", "object"]',
        '"text"',
        "not JSON",
        "",
    ],
)
def test_a_message_about_no_prompt_or_of_no_use_is_no_event(message: str) -> None:
    assert parse_text(message) is None


def test_of_a_failure_no_more_is_kept_than_is_searched() -> None:
    data = {"prompt_id": "p", "node_id": "1", "node_type": "X", "exception_message": "vae " * 100_000}
    event = events.parse_text(json.dumps({"type": "execution_error", "data": data}))
    assert isinstance(event, events.Failed)
    assert len(event.failure.message) < len("vae " * 1001)


def test_a_raw_frame_is_an_image_with_its_place_in_the_batch() -> None:
    event = parse_binary(raw_frame(HEADER, PIXELS))

    assert event == ImageMade("p1", "3", 1, 2, RawImage(2, 1, "RGB", PIXELS))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"used": 3, "total": 8}, MemoryNeed(3, 8)),
        ({"used": 0, "total": 8, "more": "…"}, MemoryNeed(0, 8)),
        ({"used": 8, "total": 8}, MemoryNeed(8, 8)),
        ({"used": 9, "total": 8}, None),
        ({"used": -1, "total": 8}, None),
        ({"used": 0, "total": 0}, None),
        ({"used": 3.0, "total": 8}, None),
        ({"used": True, "total": True}, None),
        ({"used": "3", "total": "8"}, None),
        ({"used": 3, "total": 10**30}, None),
        ({"used": 3}, None),
        ({}, None),
        ([3, 8], None),
        (None, None),
        (5, None),
    ],
)
def test_what_a_frame_tells_of_memory_counts_where_it_makes_sense_and_costs_no_picture(
    told: Any, expected: MemoryNeed | None
) -> None:
    event = parse_binary(raw_frame({**HEADER, "memory": told}, PIXELS))

    assert event == ImageMade("p1", "3", 1, 2, RawImage(2, 1, "RGB", PIXELS), expected)


@given(
    st.recursive(st.none() | st.integers() | st.floats(), st.lists, max_leaves=10)
    | st.dictionaries(st.text(), st.integers())
)
def test_no_word_on_memory_is_too_strange(told: Any) -> None:
    assert parse_binary(raw_frame({**HEADER, "memory": told}, PIXELS)) is not None


@pytest.mark.parametrize(("mode", "size"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_a_raw_frame_may_have_one_three_or_four_channels(mode: str, size: int) -> None:
    event = parse_binary(raw_frame({**HEADER, "mode": mode}, bytes(2 * size)))

    assert event is not None
    assert (event.image.mode, len(event.image.pixels)) == (mode, 2 * size)


def test_a_png_with_metadata_is_an_image_of_a_batch_of_unknown_size() -> None:
    picture = Image.frombytes("RGB", (2, 1), PIXELS)

    event = parse_binary(png_frame(METADATA, picture))

    assert event == ImageMade("p1", "4", -1, 0, RawImage(2, 1, "RGB", PIXELS))


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">II", 1, 1) + b"\xff\xd8\xff a preview of a stock engine",
        struct.pack(">II", 3, 1) + b"7a line of text",
        png_frame({**METADATA, "image_type": "image/jpeg"}, Image.new("RGB", (1, 1))),
        png_frame({"image_type": "image/png"}, Image.new("RGB", (1, 1))),
    ],
)
def test_previews_and_texts_are_no_events(frame: bytes) -> None:
    assert parse_binary(frame) is None


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00\x00\x03",
        raw_frame(HEADER, PIXELS)[:-1],
        raw_frame(HEADER, PIXELS + b"\x00"),
        raw_frame(HEADER, PIXELS)[:20],
        raw_frame({**HEADER, "mode": None}, PIXELS),
        raw_frame({"prompt_id": "p1"}, PIXELS),
        raw_frame([1], PIXELS),
        struct.pack(">II", events.IMAGE_WITH_METADATA_EVENT, 1) + b"0",
        png_frame(METADATA, Image.new("RGB", (64, 64)))[:-30],
    ],
)
def test_a_damaged_frame_is_an_error(frame: bytes) -> None:
    with pytest.raises(ValueError):
        parse_binary(frame)


@given(st.binary(max_size=200))
def test_no_bytes_get_anything_but_an_image_nothing_or_a_value_error(noise: bytes) -> None:
    for frame in (noise, struct.pack(">I", events.RAW_IMAGE_EVENT) + noise, struct.pack(">I", 4) + noise):
        try:
            event = parse_binary(frame)
        except ValueError:
            continue
        assert event is None or isinstance(event, ImageMade)


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers(), st.lists, max_leaves=10).map(json.dumps))
def test_no_text_is_too_strange_to_be_read(message: str) -> None:
    parse_text(message)
    parse_text(json.dumps({"type": "progress", "data": message}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(
    kind=st.sampled_from(["execution_start", "executing", "progress", "execution_error", "execution_interrupted", ""]),
    data=JSON | st.fixed_dictionaries({"prompt_id": JSON, "node": JSON, "value": JSON, "max": JSON}),
)
def test_whatever_an_engine_says_it_is_an_event_of_sound_types_or_none(kind: str, data: Any) -> None:
    event = events.parse_text(json.dumps({"type": kind, "data": data}))
    if event is not None:
        assert isinstance(event.prompt_id, str)
    if isinstance(event, events.Progress):
        assert isinstance(event.node_id, str)
        assert 0 <= event.value < float("inf")
        assert 0 <= event.maximum < float("inf")


@given(JSON | st.binary(max_size=40))
def test_whatever_stands_in_a_frames_header_it_is_an_image_or_a_value_error(header: Any) -> None:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    for event in (1001, 4):
        with contextlib.suppress(ValueError):
            made = events.parse_binary(struct.pack(">II", event, len(encoded)) + encoded + bytes(12))
            assert made is None or isinstance(made.prompt_id, str)


@given(
    name=st.sampled_from(["prompt_id", "node_id", "index", "count", "width", "height", "mode", "memory"]), value=JSON
)
def test_whatever_one_field_of_a_raw_frame_is_the_image_is_sound_or_refused(name: str, value: Any) -> None:
    sound = {"prompt_id": "p", "node_id": "9", "index": 0, "count": 1, "width": 2, "height": 2, "mode": "RGB"}
    header = json.dumps({**sound, name: value}).encode()
    with contextlib.suppress(ValueError):
        made = events.parse_binary(struct.pack(">II", 1001, len(header)) + header + bytes(12))
        assert made is not None
        made.image.check()
        assert isinstance(made.prompt_id, str)
        assert 0 <= made.index < made.count


@given(JSON, JSON)
def test_whatever_stands_in_queue_and_history_nothing_is_raised(running: Any, pending: Any) -> None:
    assert all(
        isinstance(each, str) for each in events.queued_ids({"queue_running": running, "queue_pending": pending})
    )
    for entry in (running, {"status": pending}, {"status": {"messages": pending}}):
        assert all(isinstance(kind, str) for kind, _ in events.history_messages(entry))
