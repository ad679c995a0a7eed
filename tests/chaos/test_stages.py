"""Engines, workers and networks that fail at every stage of a job: each popped image gets exactly one answer."""

import asyncio
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.stages import STAGES, at_stage
from worker.app.worker_spec import Tolerance
from worker.demo.engine.script import Fault as EngineFault
from worker.demo.engine.script import FaultKind as EngineFaultKind
from worker.demo.engine.script import Script
from worker.demo.engine.settings import scripted_settings
from worker.demo.horde.dispatch import Rules
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import Baseline, ImageRequest, ModelFacts, Outcome
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde
from worker.engine.process import LAUNCHER
from worker.process.supervisor import RestartPolicy

from .rig import MODEL, Rig

pytestmark = pytest.mark.chaos

FOR_EVER_S = 3600.0
AT_ONCE = Tolerance(restarts=lambda: RestartPolicy(backoff_s=(0.0,), limit=1000))
#: Where an engine hangs. Elsewhere a machine that stands still for seconds must not look like one that does.
SILENCE_LIMIT_S = 4.0


@pytest.fixture
def short_lived(tmp_path: Path, quick_worker_python: Path) -> Iterator[Rig]:
    """A rig whose Horde gives a job 12 seconds instead of 150, and takes it away to the second."""
    rules = Rules(ttl_share=0.08, sweep_s=0.1)
    with serve_in_thread(EmbeddedHorde(models={MODEL: ModelFacts(Baseline.SD1)}, rules=rules, seed=1)) as running:
        yield Rig(running, tmp_path, python=quick_worker_python)


def settled(rig: Rig, **expected: int) -> None:
    """Every popped id has one answer, and the books say so."""
    books = rig.horde.state.accounting()
    assert books.lost == 0
    assert books.duplicates == books.late == books.unknown == 0
    assert rig.outcomes() == {Outcome(name): count for name, count in expected.items()}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def ask_with_source(rig: Rig, count: int, **more: object) -> list[str]:
    """Requests that have something to fetch."""
    params = {"width": 64, "height": 64, "steps": 4, "cfg_scale": 5.0, "denoising_strength": 0.6}
    asked = ImageRequest("fox", (MODEL,), params, nsfw=False, source_image=picture(), **more)  # type: ignore[arg-type]
    return [rig.horde.state.enqueue(asked) for _ in range(count)]


def kill_engines() -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(str(LAUNCHER) in word for word in child.cmdline()):
                child.kill()


def once(action: Callable[[], None]) -> Callable[[], None]:
    left = [action]
    return lambda: left.pop()() if left else None


@pytest.mark.parametrize("stage", STAGES)
async def test_an_engine_killed_at_any_stage_costs_no_job(rig, monkeypatch, stage):
    rig.python = Path(sys.executable)  # the child that is killed is the engine itself
    rig.tolerance = AT_ONCE
    rig.config = {"max_batch": 4, "allow_img2img": True}
    rig.play(seconds=0.2)
    struck: list[str] = []

    def strike() -> None:
        kill_engines()
        struck.append(stage)

    at_stage(stage, once(strike), monkeypatch.setattr)
    requests = ask_with_source(rig, 2) + rig.ask(1, n=2)
    async with rig.working():
        await rig.done(requests)
    assert struck
    settled(rig, ok=4)


@pytest.mark.parametrize("stage", STAGES)
async def test_a_worker_told_to_stop_at_any_stage_finishes_what_it_has(rig, monkeypatch, stage):
    rig.config = {"allow_img2img": True}
    rig.play(seconds=0.2)
    ask_with_source(rig, 6)
    async with rig.working() as stop:
        at_stage(stage, once(stop.set), monkeypatch.setattr)
        await stop.wait()
    assert 1 <= len(rig.jobs) < 6
    settled(rig, ok=len(rig.jobs))


@pytest.mark.parametrize("stage", STAGES)
async def test_a_worker_broken_off_at_any_stage_answers_for_what_it_has(rig, monkeypatch, stage):
    rig.config = {"allow_img2img": True, "max_batch": 4}
    rig.play(seconds=0.2)
    ask_with_source(rig, 3)
    rig.ask(2, n=2)
    reached = asyncio.Event()
    at_stage(stage, once(reached.set), monkeypatch.setattr)
    with pytest.raises(RuntimeError, match="enough"):
        async with rig.working():
            await reached.wait()
            raise RuntimeError("enough")
    books = rig.horde.state.accounting()
    assert books.popped >= 1
    assert books.lost == books.duplicates == books.late == books.unknown == 0


async def test_an_engine_that_hangs_is_ended_and_its_job_done_by_the_next(rig):
    rig.tolerance = replace(AT_ONCE, silence_limit_s=SILENCE_LIMIT_S)
    rig.play(seconds=0.2, faults=(EngineFault(EngineFaultKind.HANG),))
    requests = rig.ask(2)
    async with rig.working():
        await rig.done(requests)
    settled(rig, ok=2)


async def test_an_engine_that_starts_slowly_serves_all_the_same(rig):
    rig.play(start_seconds=1.5)
    requests = rig.ask(1)
    async with rig.working():
        await rig.done(requests)
    settled(rig, ok=1)


async def test_a_second_engine_that_never_starts_holds_up_nothing(rig, monkeypatch):
    rig.engines = 2
    never = rig.folder / "never.json"
    Script(start_seconds=FOR_EVER_S).write(never)
    setup = rig.setup()
    engines = [setup.engines[0], scripted_settings(rig.folder / "second", script=never)]
    monkeypatch.setattr(rig, "setup", lambda: replace(setup, engines=engines))
    requests = rig.ask(3)
    async with rig.working():
        await rig.done(requests)
        assert len(psutil.Process().children()) == 2
    settled(rig, ok=3)
    assert not psutil.Process().children()


@pytest.mark.parametrize("stage", ["popped", "sampling", "delivering"])
async def test_a_network_that_is_gone_for_a_while_costs_no_job(rig, monkeypatch, stage):
    rig.play(seconds=0.2)
    routes = (Route.POP, Route.SUBMIT, Route.UPLOAD, Route.DOWNLOAD)
    gone = asyncio.Event()

    def cut() -> None:
        for route in routes:
            rig.horde.faults.inject(route, Fault(FaultKind.RESET), times=1000)
        gone.set()

    at_stage(stage, once(cut), monkeypatch.setattr)
    requests = rig.ask(3)
    async with rig.working():
        await gone.wait()
        await rig.until(lambda: sum(rig.horde.faults.struck.values()) >= 2)
        rig.horde.faults.stop()
        await rig.done(requests)
    settled(rig, ok=3)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.STATUS, status=404), Fault(FaultKind.EXPIRED), Fault(FaultKind.GARBAGE),
        Fault(FaultKind.TRUNCATED), Fault(FaultKind.RESET), Fault(FaultKind.STATUS, status=500),
    ],
    ids=lambda fault: f"{fault.kind.value}-{fault.status}",
)  # fmt: skip
async def test_a_source_picture_that_can_not_be_had_costs_the_picture_and_not_the_job(rig, fault):
    rig.config = {"allow_img2img": True}
    rig.horde.faults.inject(Route.DOWNLOAD, fault)
    [request] = ask_with_source(rig, 1)
    async with rig.working():
        await rig.done([request])
    settled(rig, ok=1)
    [delivery] = rig.horde.state.deliveries(request)
    told = {entry["value"] for entry in delivery.gen_metadata if entry["type"] == "source_image"}
    passing = fault.kind is FaultKind.RESET or (fault.status == 500 and fault.kind is FaultKind.STATUS)
    assert told == (set() if passing else {"parse_failed" if fault.takes_effect else "download_failed"})


async def test_a_horde_whose_clock_is_hours_behind_gets_its_pictures_all_the_same_or_a_fault(rig):
    rig.horde.faults.inject(Route.POP, Fault(FaultKind.CLOCK_SKEW, seconds=-7200))
    requests = rig.ask(2)
    async with rig.working():
        await rig.done(requests)
    # The addresses of the first job had expired when it came; its image is offered once more.
    settled(rig, faulted=1, ok=2)


async def test_a_pop_answered_drop_by_drop_is_a_job_like_any_other(rig):
    rig.horde.faults.inject(Route.POP, Fault(FaultKind.DRIP, seconds=1.0))
    requests = rig.ask(1)
    async with rig.working():
        await rig.done(requests)
    settled(rig, ok=1)


async def test_a_submit_whose_answer_takes_too_long_is_not_sent_while_it_is_under_way(rig):
    rig.horde.faults.inject(Route.SUBMIT, Fault(FaultKind.DRIP, seconds=1.0))
    requests = rig.ask(2)
    async with rig.working():
        await rig.done(requests)
    settled(rig, ok=2)
    assert rig.horde.state.accounting().repeats == 0


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.DRIP])
async def test_an_upload_that_crawls_holds_up_no_other_job(rig, kind):
    rig.horde.faults.inject(Route.UPLOAD, Fault(kind, seconds=1.5))
    requests = rig.ask(3)
    async with rig.working():
        await rig.done(requests)
    settled(rig, ok=3)


async def test_a_job_that_can_not_be_done_in_its_time_is_faulted_before_the_horde_takes_it_away(short_lived):
    rig = short_lived
    rig.play(seconds=FOR_EVER_S)
    requests = rig.ask(1)
    async with rig.working():
        await rig.until(lambda: rig.outcomes()[Outcome.FAULTED] >= 1)
        rig.play()
        await rig.done(requests)
    settled(rig, faulted=1, ok=1)


async def test_an_engine_that_answers_nothing_does_not_keep_a_job_from_being_faulted_in_time(short_lived):
    rig = short_lived
    rig.play(seconds=0.1, faults=(EngineFault(EngineFaultKind.FREEZE),))
    rig.ask(1)
    async with rig.working() as stop:
        await rig.until(lambda: rig.jobs)
        stop.set()
        await rig.until(lambda: rig.outcomes()[Outcome.FAULTED] == 1)
    settled(rig, faulted=1)
