"""Whatever goes wrong with a job, each of its images gets exactly one answer."""

import asyncio
import json
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from loguru import logger

from worker.app.worker_spec import Tolerance
from worker.demo.engine.script import Fault as EngineFault
from worker.demo.engine.script import FaultKind as EngineFaultKind
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import Outcome
from worker.errors import ConfigError, EngineStartFailed, HordeRefused, SafetyUnavailable, WorkerError
from worker.images import RawImage
from worker.jobs.job import Stage
from worker.safety.checker import NoChecker
from worker.safety.verdict import Verdict
from worker.scheduling.device_limits import RotationTimes
from worker.scheduling.fault_limiter import FaultLimiter
from worker.scheduling.pop_backoff import PopPauses
from worker.workflows.request import GenMetadataNote

from .rig import OTHER

pytestmark = pytest.mark.chaos

GIB = 1024**3


def engine_fault(kind: EngineFaultKind, **content):
    return {"faults": (EngineFault(kind, **content),)}


async def serve_all(rig, requests: list[str]) -> None:
    async with rig.working():
        await rig.done(requests)


#: After so many jobs a model's speed is certain.
FIRST_JOBS = 3


async def serve_batch(rig, images: int, *upload_faults: Fault) -> list[str]:
    """A batch, after some jobs: while nothing is certain of the model's speed, its jobs have one image.

    Those jobs are large ones, so that they look fast on a busy machine as well.
    """
    async with rig.working():
        for _ in range(FIRST_JOBS):
            await rig.done(rig.ask(1, width=512, height=512, steps=100))
        for fault in upload_faults:
            rig.horde.faults.inject(Route.UPLOAD, fault)
        requests = rig.ask(1, n=images)
        await rig.done(requests)
    return requests


def settled(rig, **expected: int) -> None:
    """Every popped id has one answer, and the books say so."""
    books = rig.horde.state.accounting()
    assert books.lost == 0
    assert books.duplicates == books.late == books.unknown == 0
    assert rig.outcomes() == {Outcome(name): count for name, count in expected.items()}


async def test_jobs_are_delivered_as_pictures_of_the_asked_size(rig):
    requests = rig.ask(3, width=128, height=64)
    await serve_all(rig, requests)
    settled(rig, ok=3)
    pictures = [rig.horde.state.deliveries(each)[0].picture() for each in requests]
    assert [(picture.width, picture.height) for picture in pictures] == [(128, 64)] * 3


async def test_each_image_of_a_batch_is_submitted_with_its_index(rig):
    rig.config = {"max_batch": 4}
    [request] = await serve_batch(rig, 3)
    settled(rig, ok=FIRST_JOBS + 3)
    metadata = [list(delivery.gen_metadata) for delivery in rig.horde.state.deliveries(request)]
    assert sorted(entry["ref"] for entries in metadata for entry in entries if entry["type"] == "batch_index") == [
        "0", "1", "2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        EngineFaultKind.CRASH, EngineFaultKind.SEGFAULT, EngineFaultKind.DEVICE_LOST, EngineFaultKind.OUT_OF_MEMORY,
        EngineFaultKind.NODE_FAILURE, EngineFaultKind.FRAME_LOST, EngineFaultKind.FRAME_DAMAGED,
        EngineFaultKind.SOCKET_LOST,
    ],
    ids=lambda kind: kind.value,
)  # fmt: skip
async def test_an_engine_that_fails_once_costs_a_second_try_and_nothing_else(rig, kind):
    rig.play(seconds=0.3, **engine_fault(kind))
    await serve_all(rig, rig.ask(2))
    settled(rig, ok=2)


async def test_an_engine_killed_in_the_middle_of_a_job_delivers_it_all_the_same(rig):
    rig.python = Path(sys.executable)  # the child that is killed is the engine itself
    rig.play(seconds=1.0)
    requests = rig.ask(2)
    async with rig.working():
        await rig.until(lambda: any(job.progress[0] for job in rig.jobs))
        for child in psutil.Process().children():
            child.kill()
        await rig.done(requests)
    settled(rig, ok=2)


async def test_a_job_that_fails_on_every_try_is_reported_as_faulted(rig):
    rig.play(**engine_fault(EngineFaultKind.NODE_FAILURE, times=None))
    await serve_all(rig, rig.ask(1))
    # The embedded Horde, like the real one, offers a faulted job once more.
    settled(rig, faulted=2)


async def test_a_model_that_breaks_engines_is_no_longer_offered_and_the_others_are_served(rig):
    rig.engines = 2
    rig.models.served = (*rig.models.served, OTHER)
    rig.play(**engine_fault(EngineFaultKind.CRASH, times=None, checkpoint=OTHER))
    said: list[str] = []
    sink = logger.add(said.append, filter=lambda record: record["extra"].get("action") == "model_withdrawn")
    bad = rig.ask(1, model=OTHER)
    async with rig.working():
        await rig.done(bad)
        good = rig.ask(2)
        rig.ask(1, model=OTHER)
        await rig.done(good)
    logger.remove(sink)
    # Two tries of each offer; what was asked later was not even popped.
    settled(rig, faulted=2, ok=2)
    assert len(said) == 1
    assert "another is not offered: it broke 3 engines in a row" in said[0]


async def test_what_can_not_fit_on_the_card_is_no_longer_asked_for_once_a_smaller_job_showed_its_need(rig):
    # This Horde goes by each pop's own limit.
    rig.tolerance = Tolerance(rotation=RotationTimes(stored_s=0.0))
    # 256 x 256 takes 3 GiB of 4; four times as much does not fit.
    rig.play(card_bytes=4 * GIB, bytes_per_pixel=3 * GIB / 256**2)
    async with rig.working():
        await rig.done(rig.ask(1, width=256, height=256))
        await rig.until(lambda: rig.horde.state.workers()[0]["max_pixels"] < 512 * 512)
        large = rig.ask(1, width=512, height=512)
        await rig.done(rig.ask(2, width=256, height=256))
        assert not rig.horde.state.deliveries(large[0])
    settled(rig, ok=3)
    assert "out of memory" not in (rig.folder / "bridge_1.log").read_text(encoding="utf-8")


async def test_a_job_too_large_for_the_card_that_comes_first_is_found_out_by_running_out_of_memory(rig):
    rig.play(card_bytes=4 * GIB, bytes_per_pixel=3 * GIB / 256**2)
    rig.ask(1, width=512, height=512)
    async with rig.working():
        await rig.until(lambda: rig.outcomes()[Outcome.FAULTED])
    settled(rig, faulted=1)
    assert "out of memory" in (rig.folder / "bridge_1.log").read_text(encoding="utf-8")


async def test_an_owner_who_wants_it_so_has_the_worker_end_after_faults_in_a_row(rig):
    rig.config = {"exit_on_unhandled_faults": True}
    rig.play(**engine_fault(EngineFaultKind.NODE_FAILURE, times=None))
    rig.ask(2)
    with pytest.raises(WorkerError, match="3 jobs in a row were faulted") as caught:
        await rig.serve()
    assert caught.value.remedy
    assert rig.horde.state.accounting().lost == 0


@pytest.mark.parametrize("before", [0, 6])
async def test_a_worker_whose_every_job_fails_stays_out_of_maintenance(rig, tmp_path, before):
    rig.journal = tmp_path / "journal.jsonl"
    rig.journal.write_text(json.dumps({"faulted": [time.time()] * before}))
    rig.engines, rig.config = 4, {"queue_size": 4}
    rig.tolerance = Tolerance(faults=partial(FaultLimiter, in_a_row=10**9))
    rig.play(seconds=0.2, **engine_fault(EngineFaultKind.REFUSAL, times=None))
    rig.ask(40)
    async with rig.working():
        await rig.until(lambda: len(rig.jobs) + before >= 15 and all(job.ended_at for job in rig.jobs))
    assert len(rig.jobs) + before <= 20
    assert [each["maintenance_mode"] for each in rig.horde.state.workers()] == [False]


async def test_a_graph_that_comfyui_refuses_is_not_tried_twice(rig):
    rig.play(**engine_fault(EngineFaultKind.REFUSAL, times=None))
    await serve_all(rig, rig.ask(1))
    settled(rig, faulted=2)
    assert all("refuses the graph" in job.fault for job in rig.jobs)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.STATUS, status=500), Fault(FaultKind.STATUS, status=503), Fault(FaultKind.RESET),
        Fault(FaultKind.STATUS, status=500, after_effect=True), Fault(FaultKind.RESET, after_effect=True),
        Fault(FaultKind.GARBAGE), Fault(FaultKind.TRUNCATED), Fault(FaultKind.STATUS, status=429),
    ],
    ids=lambda fault: f"{fault.kind.value}-{fault.status}{'-after' if fault.after_effect else ''}",
)  # fmt: skip
async def test_a_submit_whose_answer_goes_wrong_is_sent_again(rig, fault):
    rig.horde.faults.inject(Route.SUBMIT, fault)
    await serve_all(rig, rig.ask(1))
    settled(rig, ok=1)


@pytest.mark.parametrize(
    "fault",
    [Fault(FaultKind.STATUS, status=500), Fault(FaultKind.STATUS, status=503), Fault(FaultKind.RESET)],
    ids=lambda fault: f"{fault.kind.value}-{fault.status}",
)
async def test_an_upload_that_fails_is_sent_again(rig, fault):
    rig.horde.faults.inject(Route.UPLOAD, fault)
    await serve_all(rig, rig.ask(1))
    settled(rig, ok=1)


async def test_while_the_storage_is_away_no_more_jobs_are_taken_than_may_all_be_lost(rig):
    rig.tolerance = Tolerance(faults=partial(FaultLimiter, slow_delivery_s=0.0))
    rig.engines = 2
    async with rig.working():
        await rig.done(rig.ask(1))
        rig.horde.faults.inject(Route.UPLOAD, Fault(FaultKind.STATUS, status=503), times=10**6)
        requests = rig.ask(30)
        taken = FaultLimiter().with_expected + 1
        await rig.until(lambda: len(rig.jobs) >= taken)
        # Time for more to come, which must not.
        await asyncio.sleep(1.0)
        assert len(rig.jobs) == taken
        rig.horde.faults.stop()
        await rig.done(requests)
    settled(rig, ok=31)


async def test_a_refused_upload_ends_in_a_reported_fault(rig):
    rig.horde.faults.inject(Route.UPLOAD, Fault(FaultKind.EXPIRED))
    await serve_all(rig, rig.ask(1))
    settled(rig, faulted=1, ok=1)


async def test_one_bad_image_does_not_spoil_its_batch(rig):
    rig.config = {"max_batch": 4}
    await serve_batch(rig, 3, Fault(FaultKind.EXPIRED))
    settled(rig, faulted=1, ok=FIRST_JOBS + 3)


@pytest.mark.parametrize(
    "fault",
    [Fault(FaultKind.GARBAGE), Fault(FaultKind.TRUNCATED), Fault(FaultKind.STATUS, status=500), Fault(FaultKind.RESET)],
    ids=lambda fault: fault.kind.value,
)
async def test_a_pop_that_goes_wrong_does_not_stop_the_worker(rig, fault):
    rig.horde.faults.inject(Route.POP, fault)
    requests = rig.ask(2)
    async with rig.working():
        await rig.until(lambda: rig.outcomes()[Outcome.OK] + rig.outcomes()[Outcome.FAULTED] >= 1)
        # What the spoiled answer held is lost with it; the Horde hands it out again after its time to live.
        await rig.until(lambda: rig.horde.state.accounting().popped >= len(requests) - 1)
    assert rig.horde.state.accounting().lost == 0


async def test_a_rate_limit_does_not_stop_the_worker(rig):
    rig.horde.faults.inject(Route.POP, Fault(FaultKind.STATUS, status=429))
    await serve_all(rig, rig.ask(1))
    settled(rig, ok=1)


async def test_maintenance_does_not_stop_the_worker(rig):
    rig.tolerance = Tolerance(pauses=PopPauses(maintenance_s=0.1))
    said: list[str] = []
    sink = logger.add(said.append, filter=lambda record: record["extra"].get("kind") == "maintenance")
    async with rig.working():
        await rig.done(rig.ask(1))
        [worker] = rig.horde.state.workers()
        rig.horde.state.set_maintenance(worker["id"], on=True)
        await rig.until(lambda: said)
        rig.horde.state.set_maintenance(worker["id"], on=False)
        await rig.done(rig.ask(1))
    logger.remove(sink)
    settled(rig, ok=2)


async def test_a_key_the_horde_does_not_know_ends_the_worker_with_what_to_do(rig):
    rig.config = {"api_key": "x" * 22}
    with pytest.raises(HordeRefused, match="api_key") as caught:
        await rig.serve()
    assert caught.value.remedy


async def test_a_job_that_waits_for_its_lora_does_not_keep_the_engine_from_the_next_one(rig, monkeypatch):
    arrived = asyncio.Event()

    async def lora(wish, model):
        await arrived.wait()
        return GenMetadataNote("lora", "download_failed", wish.name)

    monkeypatch.setattr(rig.models, "lora", lora)
    rig.config = {"queue_size": 0, "allow_lora": True}
    slow = rig.ask(1, loras=[{"name": "1234"}])
    async with rig.working():
        await rig.until(lambda: rig.jobs)
        await rig.done(rig.ask(1))
        assert not rig.horde.state.deliveries(slow[0])
        arrived.set()
        await rig.done(slow)
    settled(rig, ok=2)


async def test_an_engine_that_can_not_start_ends_the_worker_with_its_last_words(rig):
    rig.play(**engine_fault(EngineFaultKind.START_FAILURE, times=None))
    with pytest.raises(EngineStartFailed, match="no NVIDIA driver"):
        await rig.serve()


class ShyChecker(NoChecker):
    """Has no verdict, ever."""

    async def check(self, image, **context):
        raise SafetyUnavailable("The checker is down.")


async def test_an_image_without_a_verdict_never_leaves(rig):
    rig.safety = ShyChecker()
    requests = rig.ask(1)
    await serve_all(rig, requests)
    settled(rig, faulted=2)
    assert rig.horde.state.deliveries(requests[0]) == []


class StrictChecker(NoChecker):
    """Replaces everything by one black pixel."""

    async def check(self, image, **context):
        return Verdict(nsfw=True, replacement=RawImage(1, 1, "RGB", b"\0\0\0"))


async def test_a_censored_image_is_replaced_and_said_to_be_censored(rig):
    rig.safety = StrictChecker()
    [request] = rig.ask(1)
    await serve_all(rig, [request])
    [delivery] = rig.horde.state.deliveries(request)
    assert delivery.censored
    assert {"type": "censorship", "value": "nsfw"} in list(delivery.gen_metadata)
    assert delivery.picture().width == 1


class StrangerChecker(NoChecker):
    def may_serve(self, horde_url: str) -> bool:
        return False


async def test_a_worker_whose_checker_may_not_serve_this_horde_does_not_start(rig):
    rig.safety = StrangerChecker()
    with pytest.raises(ConfigError, match="safety checker"):
        await rig.serve()
    assert not rig.horde.state.workers()


async def test_a_worker_told_to_stop_finishes_what_it_has(rig):
    rig.play(seconds=1.0)
    rig.ask(6)
    async with rig.working() as stop:
        await rig.until(lambda: rig.jobs)
        stop.set()
    settled(rig, ok=len(rig.jobs))
    assert all(job.stage is Stage.DONE for job in rig.jobs)


async def test_a_worker_that_is_cancelled_gives_its_jobs_back(rig):
    rig.play(seconds=30.0)
    rig.ask(6)
    with pytest.raises(RuntimeError, match="enough"):
        async with rig.working():
            await rig.until(lambda: len(rig.jobs) == 2)
            raise RuntimeError("enough")
    settled(rig, faulted=2)


async def test_nothing_of_a_worker_is_left_when_it_ends(rig):
    before = asyncio.all_tasks()
    await serve_all(rig, rig.ask(2))
    assert asyncio.all_tasks() == before


async def test_a_model_file_that_no_engine_can_read_is_told_to_the_models_room(rig):
    rig.play(**engine_fault(EngineFaultKind.MODEL_BROKEN))
    await serve_all(rig, rig.ask(1))
    settled(rig, faulted=1, ok=1)
    assert rig.models.unreadable == ["Tiny SD1.5"]
