"""One engine and its client, over real HTTP and a real websocket, against the scripted engine."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image

from worker.demo.engine.script import Fault, FaultKind
from worker.engine import client as client_module
from worker.engine import connection as connection_module
from worker.engine.client import EngineClient
from worker.engine.events import MemoryNeed, Progress
from worker.engine.process import EngineProcess, EngineSettings
from worker.engine.stall_detector import Phase, StallLimits, StallWatch
from worker.errors import (
    DeviceLost,
    EngineError,
    EngineStalled,
    GraphRejected,
    ModelBroken,
    NodeFailed,
    OutOfMemory,
    RenderCancelled,
)

Play = Callable[..., None]
Build = Callable[..., dict[str, Any]]
Until = Callable[[Callable[[], object]], Awaitable[None]]

OUT = ("out",)
#: Long enough that a job never ends by itself within a test.
FOR_EVER_S = 3600.0


def executed(engine: EngineProcess) -> int:
    """Prompts the engine has finished."""
    return engine.settings.log_file.read_text(encoding="utf-8").count("Prompt executed")


class Steps:
    """Collects progress; `begun` is set by the first sign of it."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.begun = asyncio.Event()

    def __call__(self, progress: Progress) -> None:
        self.seen.append(progress)
        self.begun.set()


async def test_prompts_that_wait_together_each_get_their_own_images(client: EngineClient, plain_graph: Build) -> None:
    colours = [0x0000FF, 0x00FF00, 0xFF0000, 0x123456]

    batches = await asyncio.gather(
        *(client.render(plain_graph(colour, count=number), OUT) for number, colour in enumerate(colours, start=1))
    )

    for number, (colour, images) in enumerate(zip(colours, batches, strict=True), start=1):
        assert [image.pixels for image in images] == [colour.to_bytes(3, "big") * 64] * number
    assert len(client._prompts) == 0


async def test_images_come_in_the_order_of_nodes_and_batch(client: EngineClient, sampler_graph: Build) -> None:
    graph = sampler_graph(count=3)
    graph["another"] = graph["out"]

    both = await client.render(graph, ("out", "another"))
    first = await client.render(graph, ("another",))

    assert both == first * 2
    assert len({image.pixels for image in first}) == 3
    assert {(image.width, image.height, image.mode) for image in first} == {(64, 96, "RGB")}


async def test_the_same_graph_gives_the_same_picture_and_another_seed_another(
    client: EngineClient, sampler_graph: Build
) -> None:
    once = await client.render(sampler_graph(1), OUT)
    other = await client.render(sampler_graph(2), OUT)
    again = await client.render(sampler_graph(1), OUT)

    assert once == again
    assert once != other


async def test_progress_tells_every_step_of_the_sampler(client: EngineClient, sampler_graph: Build) -> None:
    steps = Steps()

    await client.render(sampler_graph(steps=5), OUT, on_progress=steps)

    sampling = [(step.value, step.maximum) for step in steps.seen if step.node_id == "sampler"]
    assert sampling == [(0, 0), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert "out" not in {step.node_id for step in steps.seen}


async def test_cancelling_the_running_job_leaves_the_waiting_one_alone(
    client: EngineClient, sampler_graph: Build, plain_graph: Build, play: Play
) -> None:
    play(seconds=FOR_EVER_S)
    steps = Steps()
    running = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=steps))
    await steps.begun.wait()
    waiting = asyncio.ensure_future(client.render(plain_graph(7), OUT))
    play()

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await waiting)[0].pixels[:3] == b"\x00\x00\x07"
    assert len(client._prompts) == 0


async def test_cancelling_a_waiting_job_leaves_the_running_one_alone(
    *, engine: EngineProcess, client: EngineClient, sampler_graph: Build, plain_graph: Build, play: Play, until: Until
) -> None:
    play(seconds=1)
    steps = Steps()
    running = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=steps))
    await steps.begun.wait()
    waiting = asyncio.ensure_future(client.render(plain_graph(7), OUT))
    while not (await client._connection.ask("/queue"))["queue_pending"]:
        await asyncio.sleep(0.01)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(await running) == 1
    await client.render(plain_graph(8), OUT)
    await until(lambda: executed(engine) == 2)


async def test_a_job_given_up_while_it_is_handed_in_does_not_stay_in_the_engine(
    client: EngineClient, engine: EngineProcess, sampler_graph: Build, play: Play, until: Until
) -> None:
    def log() -> str:
        return engine.settings.log_file.read_text(encoding="utf-8")

    play(seconds=FOR_EVER_S, accept_seconds=FOR_EVER_S)
    given_up = asyncio.ensure_future(client.render(sampler_graph(), OUT))
    await until(lambda: "Prompt received" in log())
    given_up.cancel()
    await asyncio.sleep(0)
    play(seconds=FOR_EVER_S)

    with pytest.raises(asyncio.CancelledError):
        await given_up

    await until(lambda: "Prompt queued" in log())
    queue = await client._connection.ask("/queue")
    assert queue == {"queue_running": [], "queue_pending": []}
    assert len(client._prompts) == 0


async def test_a_job_that_somebody_else_interrupts_is_cancelled(
    engine: EngineProcess, client: EngineClient, sampler_graph: Build, play: Play
) -> None:
    play(seconds=FOR_EVER_S)
    steps = Steps()
    job = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=steps))
    await steps.begun.wait()

    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {engine.token}"}, trust_env=False) as http:
        await http.post(f"{engine.url}/interrupt")

    with pytest.raises(RenderCancelled):
        await job


@pytest.mark.parametrize("kind", [FaultKind.FRAME_LOST, FaultKind.FRAME_DAMAGED])
async def test_an_image_that_did_not_arrive_is_asked_for_again_without_sampling_again(
    *, engine: EngineProcess, client: EngineClient, sampler_graph: Build, play: Play, until: Until, kind: FaultKind
) -> None:
    play(faults=(Fault(kind),))
    steps = Steps()

    images = await client.render(sampler_graph(count=2), OUT, on_progress=steps)

    assert len(images) == 2
    await until(lambda: executed(engine) == 2)
    assert [step.value for step in steps.seen if step.node_id == "sampler"] == [0, 1, 2, 3, 4]


async def test_an_image_that_never_arrives_fails_the_job(client: EngineClient, plain_graph: Build, play: Play) -> None:
    play(faults=(Fault(FaultKind.FRAME_LOST, times=None),))

    with pytest.raises(NodeFailed, match="twice"):
        await client.render(plain_graph(), OUT)


async def test_a_graph_that_comfyui_refuses_is_rejected_with_all_it_says(
    client: EngineClient, plain_graph: Build
) -> None:
    unknown = plain_graph()
    unknown["image"]["class_type"] = "EmptyImagination"
    missing = plain_graph()
    missing["out"]["inputs"] = {}

    with pytest.raises(GraphRejected, match=r"node class EmptyImagination \(image\)"):
        await client.render(unknown, OUT)
    with pytest.raises(GraphRejected, match=r"HordeImageOutput \(out\): Required input is missing images"):
        await client.render(missing, OUT)
    assert len(client._prompts) == 0


async def test_an_engine_that_hangs_in_a_job_is_stalled(
    engine: EngineProcess, sampler_graph: Build, plain_graph: Build, play: Play
) -> None:
    play(faults=(Fault(FaultKind.HANG),))
    client = EngineClient(engine.url, engine.token, silence_limit_s=0.5)
    await client.open()

    with pytest.raises(EngineStalled, match="silent"):
        await client.render(sampler_graph(), OUT)

    await client.close()


async def test_a_slow_job_that_moves_is_not_stalled_and_neither_is_the_one_behind_it(
    engine: EngineProcess, sampler_graph: Build, plain_graph: Build, play: Play
) -> None:
    play(seconds=3)
    client = EngineClient(engine.url, engine.token, silence_limit_s=2.5)
    await client.open()

    slow, behind = await asyncio.gather(
        client.render(sampler_graph(steps=20), OUT), client.render(sampler_graph(2, steps=20), OUT)
    )

    assert (len(slow), len(behind)) == (1, 1)
    await client.close()


async def test_a_job_behind_one_that_was_given_up_and_does_not_stop_finds_the_engine_stalled(
    engine: EngineProcess, sampler_graph: Build, plain_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CANCEL_ATTEMPTS", 2)
    play(faults=(Fault(FaultKind.HANG),))
    client = EngineClient(engine.url, engine.token, silence_limit_s=2.0)
    await client.open()
    steps = Steps()
    hung = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=steps))
    await steps.begun.wait()
    hung.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung

    with pytest.raises(EngineStalled, match="silent"):
        await client.render(plain_graph(), OUT)

    await client.close()


async def test_jobs_that_are_given_up_one_after_another_do_not_hide_that_the_engine_stands_still(
    engine: EngineProcess, sampler_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(client_module, "CANCEL_ATTEMPTS", 2)
    play(faults=(Fault(FaultKind.HANG),))
    client = EngineClient(engine.url, engine.token, silence_limit_s=FOR_EVER_S)
    await client.open()
    steps = Steps()
    jobs = [asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=steps))]
    await steps.begun.wait()
    await until(lambda: "Fault: hang" in engine.settings.log_file.read_text(encoding="utf-8"))
    jobs[0].cancel()
    await asyncio.wait(jobs)
    await until(lambda: not client._detached)
    heard_at = client._heard_at

    jobs.append(asyncio.ensure_future(client.render(sampler_graph(2), OUT)))
    await until(lambda: len(client._prompts) == 1)

    assert client._heard_at == heard_at
    await client.close()
    await asyncio.wait(jobs)


async def test_who_gives_up_on_an_engine_that_answers_nothing_is_not_held_up(
    engine: EngineProcess, sampler_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "GIVING_UP_S", 0.1)
    monkeypatch.setattr(connection_module, "HTTP_TIMEOUT_S", FOR_EVER_S)
    play(faults=(Fault(FaultKind.FREEZE),))
    client = EngineClient(engine.url, engine.token)
    await client.open()
    await client.put_input("abc", b"picture")
    steps = Steps()
    job = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=steps))
    await steps.begun.wait()
    while not any(step.value >= 2 for step in steps.seen):
        await asyncio.sleep(0.01)

    job.cancel()
    await asyncio.wait([job])
    await client.drop_inputs(["abc"])

    assert job.cancelled()
    await client.close()


async def test_an_engine_that_answers_nothing_any_more_is_stalled(
    engine: EngineProcess, sampler_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HTTP_TIMEOUT_S", 1.0)
    play(faults=(Fault(FaultKind.FREEZE),))
    client = EngineClient(engine.url, engine.token, silence_limit_s=0.5)
    await client.open()

    with pytest.raises(EngineStalled, match="did not answer"):
        await client.render(sampler_graph(), OUT)

    await client.close()


async def test_the_end_of_a_job_that_was_not_heard_is_found_out(
    engine: EngineProcess, plain_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = EngineClient(engine.url, engine.token)
    dispatch = client._dispatch
    first = ""

    def miss_the_first_prompt(event: Any) -> None:
        nonlocal first
        first = first or event.prompt_id
        if event.prompt_id != first:
            dispatch(event)

    def has_ended_unheard(client: EngineClient) -> bool:
        log = engine.settings.log_file.read_text(encoding="utf-8")
        return first in client._prompts and "Prompt executed" in log

    monkeypatch.setattr(client, "_dispatch", miss_the_first_prompt)
    # As if the limit were over as soon as the job is: a time that passes here also passes before a slow engine is done.
    limit = property(lambda client: 0.0 if has_ended_unheard(client) else FOR_EVER_S)
    monkeypatch.setattr(EngineClient, "_limit_s", limit)
    monkeypatch.setattr(client_module, "LOOK_S", 0.1)
    await client.open()

    assert len(await client.render(plain_graph(), OUT)) == 1

    await client.close()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.OUT_OF_MEMORY, OutOfMemory),
        (FaultKind.MODEL_BROKEN, ModelBroken),
        (FaultKind.NODE_FAILURE, NodeFailed),
    ],
)
async def test_a_failed_job_is_classified_and_the_next_one_works(
    client: EngineClient, sampler_graph: Build, play: Play, kind: FaultKind, error: type[EngineError]
) -> None:
    play(faults=(Fault(kind),))

    with pytest.raises(error, match="KSampler failed"):
        await client.render(sampler_graph(), OUT)

    assert len(await client.render(sampler_graph(), OUT)) == 1


async def test_a_lost_device_fails_every_job_that_follows(
    client: EngineClient, sampler_graph: Build, play: Play
) -> None:
    play(faults=(Fault(FaultKind.DEVICE_LOST),))

    for seed in (1, 2):
        with pytest.raises(DeviceLost):
            await client.render(sampler_graph(seed), OUT)


async def test_a_picture_handed_in_is_known_until_it_is_dropped(client: EngineClient) -> None:
    graph = {
        "image": {"class_type": "HordeImageInput", "inputs": {"key": "abc"}},
        "out": {"class_type": "HordeImageOutput", "inputs": {"images": ["image", 0]}},
    }
    encoded = io.BytesIO()
    Image.new("RGB", (31, 17)).save(encoded, "PNG")

    await client.put_input("abc", encoded.getvalue())
    images = await client.render(graph, OUT)
    await client.drop_inputs(["abc"])

    assert [(image.width, image.height) for image in images] == [(31, 17)]
    with pytest.raises(GraphRejected, match="no picture was handed in under 'abc'"):
        await client.render(graph, OUT)


async def test_a_stock_engine_delivers_attributed_pngs(settings: EngineSettings, plain_graph: Build) -> None:
    engine = EngineProcess(replace(settings, with_node_pack=False))
    await engine.start()
    client = EngineClient(engine.url)
    await client.open()
    graph = plain_graph(0x336699, count=3)
    graph["out"]["class_type"] = "SaveImageWebsocket"

    images = await client.render(graph, OUT, expected=3)

    assert not client.has_node_pack
    assert [image.pixels[:3] for image in images] == [b"\x33\x66\x99"] * 3
    await client.close()
    await engine.stop(timeout_s=0)


async def test_freeing_memory_makes_the_next_equal_job_start_from_nothing(
    client: EngineClient, sampler_graph: Build
) -> None:
    cached, fresh = Steps(), Steps()
    await client.render(sampler_graph(), OUT)
    await client.render(sampler_graph(), OUT, on_progress=cached)

    await client.free()
    await client.render(sampler_graph(), OUT, on_progress=fresh)

    # Each prompt is said to have begun; only the second had nodes to run.
    assert {step.node_id for step in cached.seen} == {""}
    assert {step.node_id for step in fresh.seen} == {"", "model", "yes", "no", "latent", "sampler", "decode"}


async def test_what_sampling_took_of_the_card_is_told_once_for_each_prompt_that_sampled(
    client: EngineClient, sampler_graph: Build, play: Play
) -> None:
    play(card_bytes=1000_000, bytes_per_pixel=10)
    told: list[MemoryNeed] = []
    graph = sampler_graph(count=3)
    graph["another"] = graph["out"]

    await client.render(graph, ("out", "another"), on_memory=told.append)
    await client.render(graph, ("out", "another"), on_memory=told.append)

    assert told == [MemoryNeed(10 * 64 * 96 * 3, 1000_000)], "the second time all was cached"


async def test_nothing_is_told_of_memory_by_an_engine_without_a_card_or_when_it_ran_out(
    client: EngineClient, sampler_graph: Build, play: Play
) -> None:
    told: list[MemoryNeed] = []

    await client.render(sampler_graph(1), OUT, on_memory=told.append)
    play(card_bytes=1000, bytes_per_pixel=10)
    with pytest.raises(OutOfMemory):
        await client.render(sampler_graph(2), OUT, on_memory=told.append)

    assert told == []


async def test_an_engine_tells_its_memory_and_its_nodes(client: EngineClient) -> None:
    stats = await client.system_stats()

    assert stats["devices"][0]["vram_total"] > 0
    assert client.has_node_pack
    assert "KSampler" in client.object_info


async def test_a_sampler_that_stands_still_is_found_out_although_the_engine_goes_on_talking(
    engine: EngineProcess, sampler_graph: Build, play: Play
) -> None:
    stall_limits = StallLimits(lambda: {Phase.LOADING: FOR_EVER_S, Phase.STEPPING: 0.1, Phase.FINISHING: FOR_EVER_S})
    play(faults=(Fault(FaultKind.HANG),))
    client = EngineClient(engine.url, engine.token)
    await client.open()

    async def chatter() -> None:
        # Each makes the engine tell everybody how long its queue is.
        while True:
            await client._connection.request("POST", "/queue", json={"delete": ["nothing"]})
            await asyncio.sleep(0.02)

    talking = asyncio.ensure_future(chatter())
    with pytest.raises(EngineStalled, match="silent"):
        await client.render(sampler_graph(), OUT, watch=StallWatch(stall_limits, "a", 0.1))

    talking.cancel()
    await client.close()


async def test_a_model_that_takes_long_to_load_is_waited_for(
    engine: EngineProcess, sampler_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_LIMIT_S", 2.0)
    stall_limits = StallLimits(lambda: {Phase.LOADING: FOR_EVER_S, Phase.STEPPING: 10.0, Phase.FINISHING: 10.0})
    play(load_seconds=3.0)
    client = EngineClient(engine.url, engine.token)
    await client.open()

    assert len(await client.render(sampler_graph(), OUT, watch=StallWatch(stall_limits, "a", 0.1))) == 1

    await client.close()
