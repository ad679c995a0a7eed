"""A misconfigured worker on the embedded Horde is told what that costs, and what it was told comes true."""

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from worker.app.run import serve
from worker.app.worker_spec import WorkerSpec
from worker.config.schema import BridgeData
from worker.demo.horde.records import ImageRequest
from worker.demo.horde.server import RunningHorde
from worker.status.board import StatusBoard
from worker.status.snapshot import Snapshot

from .rig import MODEL, OTHER, PATIENCE_S, Rig

#: Jobs that wait for a worker which takes none of them, by the key that keeps them away.
QUEUE = {"allow_lora": 9, "max_power": 5, "allow_img2img": 2}
MISCONFIGURED = {"allow_lora": False, "allow_img2img": False, "max_power": 1}
BETTER = {"allow_lora": True, "allow_img2img": True, "max_power": 8}


def picture() -> bytes:
    """A source picture as requesters send it."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(out, "WEBP")
    return out.getvalue()


def fill(horde: RunningHorde) -> None:
    """Put the queue into the Horde."""
    plain = {"width": 64, "height": 64, "steps": 4, "cfg_scale": 5.0}
    asked: dict[str, dict[str, Any]] = {
        "allow_lora": {"params": {**plain, "loras": [{"name": "1", "model": 1.0, "clip": 1.0}]}},
        "max_power": {"params": {**plain, "width": 256, "height": 256}},
        "allow_img2img": {"params": plain, "source_image": picture(), "source_processing": "img2img"},
    }
    for key, count in QUEUE.items():
        for number in range(count):
            request = ImageRequest(prompt=f"{key} {number}", models=(MODEL,), nsfw=False, **asked[key])
            horde.state.enqueue(request)


@contextmanager
def looking(setup: WorkerSpec) -> Iterator[tuple[WorkerSpec, list[StatusBoard]]]:
    """The set-up, and its board as soon as it runs."""
    found: list[StatusBoard] = []

    async def reader(board: StatusBoard) -> None:
        found.append(board)
        await asyncio.Event().wait()

    yield replace(setup, readers=(*setup.readers, reader)), found


async def until(found: list[StatusBoard], holds: Any) -> Snapshot:
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not found or not holds(found[0].snapshot()):
        assert asyncio.get_running_loop().time() < deadline, found and found[0].snapshot()
        await asyncio.sleep(0.1)
    return found[0].snapshot()


async def done_with(rig: Rig, key: str) -> int:
    """Jobs that a worker does of the whole queue with one key set right."""
    fill(rig.horde)
    before = len(rig.horde.state.accounting().delivered_at)
    rig.config = {**MISCONFIGURED, key: BETTER[key]}
    stop = asyncio.Event()
    with looking(rig.setup()) as (setup, found):
        serving = asyncio.ensure_future(serve(setup, stop))
        await until(found, lambda status: status.session.pops["nothing"] >= 3)
        stop.set()
        await serving
    return len(rig.horde.state.accounting().delivered_at) - before


@pytest.mark.parametrize("key", [*QUEUE])
async def test_one_setting_alone_brings_as_many_jobs_as_the_queue_holds_for_it(rig: Rig, key: str) -> None:
    rig.play()
    assert await done_with(rig, key) == QUEUE[key], "what the order of advice is held against"


async def test_the_advice_has_the_order_that_running_each_setting_has_and_comes_true(rig: Rig) -> None:
    rig.config = dict(MISCONFIGURED)
    rig.play()
    fill(rig.horde)
    stop = asyncio.Event()
    with looking(rig.setup()) as (setup, found):
        serving = asyncio.ensure_future(serve(setup, stop))
        status = await until(found, lambda status: len(status.advice) == len(QUEUE))
        assert [advice.key for advice in status.advice] == sorted(QUEUE, key=lambda key: -QUEUE[key])
        data = {name: getattr(setup.live.data, name) for name in setup.live.data.model_fields_set} | BETTER
        setup.live.change(BridgeData.model_validate(data))
        status = await until(found, lambda status: status.session.total.jobs == sum(QUEUE.values()))
        stop.set()
        await serving
    assert {each.topic for each in status.predictions} == {"lora", "max_pixels", "img2img"}
    for each in status.predictions:
        assert each.predicted_per_hour / 2 <= each.came <= 2 * each.predicted_per_hour, each.sentence


async def test_a_model_that_is_asked_for_is_advised_and_brings_what_was_predicted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.models, "known_size", lambda name: 2 * 10**9 if name == OTHER else None)
    rig.config = {"models_to_load": [MODEL]}
    rig.play()
    rig.ask(6, model=OTHER)
    stop = asyncio.Event()
    with looking(rig.setup()) as (setup, found):
        serving = asyncio.ensure_future(serve(setup, stop))
        status = await until(found, lambda status: status.advice)
        [advice] = status.advice
        assert (advice.key, advice.value, advice.disk_bytes) == ("models_to_load", OTHER, 2 * 10**9)
        rig.models.served = (MODEL, OTHER)
        setup.live.change(setup.live.data.model_copy(update={"models_to_load": (MODEL, OTHER)}))
        status = await until(found, lambda status: status.session.total.jobs == 6)
        stop.set()
        await serving
    [prediction] = status.predictions
    assert prediction.predicted_per_hour / 2 <= prediction.came <= 2 * prediction.predicted_per_hour
