"""Every image of a job gets its answer, whatever fails on the way and whoever breaks in."""

import asyncio
import contextlib
from typing import Any

import pytest

from tests.chaos.rig import OneModel
from worker.aio import timeout
from worker.engine.events import Progress
from worker.engine.render_task import Conditions, RenderTask
from worker.errors import EngineDied, HordeUnreachable, JobGone
from worker.horde.messages import PopRequest, PopResponse, SubmitRequest, SubmitResponse
from worker.images import RawImage
from worker.jobs import runner
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.job import Job, JobEvents, Stage
from worker.jobs.runner import FAULT_S, JobRunner
from worker.safety.checker import NoChecker
from worker.safety.verdict import Verdict
from worker.scheduling.intake import Intake
from worker.scheduling.pop_admission import Admitted, Wait
from worker.scheduling.pop_backoff import PopBackoff
from worker.workflows.library import Library

PATIENCE_S = 60.0
#: what is asked for plays no part here
NOTHING_SAID: dict[str, Any] = {"bridge_agent": "AI Horde Worker reGen:13.0.0:u"}
POP = Admitted(PopRequest.model_construct(**NOTHING_SAID))


def popped(count: int = 1, *, ttl: float = 150) -> PopResponse:
    ids = [f"image-{number}" for number in range(count)]
    payload = {"prompt": "a fox", "n_iter": count}
    return PopResponse(id=ids[0], ids=ids, payload=payload, model="a", ttl=ttl, r2_uploads=["u"] * count)


class Horde:
    """Notes what is submitted; `gate` holds every submit back."""

    def __init__(self, *answers: PopResponse) -> None:
        self.answers = list(answers)
        self.submitted: list[SubmitRequest] = []
        self.asked = 0
        self.deadlines: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.before_answer: Any = None

    async def pop(self, _: Any) -> PopResponse:
        if self.before_answer:
            await self.before_answer()
        return self.answers.pop(0) if self.answers else PopResponse()

    async def submit(self, submission: SubmitRequest, *, deadline: float) -> SubmitResponse:
        self.asked += 1
        self.deadlines.append(deadline)
        await self.gate.wait()
        if self.failure:
            raise self.failure
        self.submitted.append(submission)
        return SubmitResponse()

    async def upload(self, *_: Any, **__: Any) -> None:
        return

    @property
    def faulted(self) -> list[str]:
        return sorted(each.id for each in self.submitted if each.state == "faulted")


class Models(OneModel):
    """Its one model is here, and jobs name nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.served = ("a",)


class Engines:
    """Makes images, or fails every job; at the second try only where its memory is `short`."""

    def __init__(self, images: int, *, short: bool = False) -> None:
        self._images = images
        self._short = short

    async def render(self, task: RenderTask) -> list[RawImage]:
        if not self._images:
            raise EngineDied("It is dead.")
        for save_memory in (False, True) if self._short else (False,):
            task.prepare(Conditions(has_node_pack=True, save_memory=save_memory))
        return [RawImage(1, 1, "RGB", b"abc")] * self._images


def runner_of(
    horde: Horde, events: JobEvents | None = None, *, images: int = 0, short: bool = False, **more: Any
) -> JobRunner:
    parts: dict[str, Any] = {
        **more,
        "horde": horde,
        "engines": Engines(images, short=short),
        "safety": NoChecker(),
        "models": Models(),
    }
    return JobRunner(library=Library.load, events=events or JobEvents(), **parts)


async def until(condition: Any) -> None:
    async with timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_images_of_a_failed_batch_are_reported_side_by_side() -> None:
    horde = Horde()
    horde.gate.clear()
    job = Job(popped(5))
    running = asyncio.ensure_future(runner_of(horde).run(job))

    await until(lambda: horde.asked == 5)
    horde.gate.set()
    await running

    assert horde.faulted == job.pop.job_ids
    assert (job.stage, job.faulted, job.owed) == (Stage.FAULTED, 5, [])


async def test_images_that_arrived_are_counted_and_those_nobody_wants_any_more_are_not() -> None:
    wanted, unwanted = Horde(), Horde()
    unwanted.failure = JobGone("given up")
    jobs = [Job(popped(2)), Job(popped(2))]

    await runner_of(wanted, images=2).run(jobs[0])
    await runner_of(unwanted, images=2).run(jobs[1])

    assert [(job.delivered, job.owed) for job in jobs] == [(2, []), (0, [])]


@pytest.mark.parametrize(("rc", "counted"), [("InvalidJobID", 0), ("AbortedGen", 2)])
async def test_faults_of_images_that_the_horde_does_not_know_are_not_counted(rc: str, counted: int) -> None:
    horde, job = Horde(), Job(popped(2))
    horde.failure = JobGone("no such job", rc=rc)

    await runner_of(horde).give_back(job, "The worker is shutting down.")

    assert (job.faulted, job.counted_faults) == (2, counted)


@pytest.mark.parametrize(("short", "seeds"), [(False, [7, 7, 7]), (True, [7, 8, 9])])
async def test_an_image_is_delivered_with_the_seed_it_was_made_from(short: bool, seeds: list[int]) -> None:
    horde, pop = Horde(), popped(3)
    pop.payload["seed"] = "7"
    await runner_of(horde, images=3, short=short).run(Job(pop))
    assert [each.seed for each in sorted(horde.submitted, key=lambda each: each.id)] == seeds


async def test_a_seed_too_large_for_the_server_is_folded_like_any_other() -> None:
    horde = Horde()
    pop = popped()
    await runner_of(horde, images=1).run(
        Job(pop.model_copy(update={"payload": {**pop.payload, "seed": str(2**63 + 5)}}))
    )
    assert [each.seed for each in horde.submitted] == [5]


async def test_one_report_that_fails_keeps_none_of_the_others() -> None:
    horde = Horde()
    horde.failure = HordeUnreachable("no route")
    job = Job(popped(2))

    await runner_of(horde).run(job)

    assert (horde.asked, job.faulted, job.owed) == (2, 0, job.pop.job_ids)


async def test_a_job_cancelled_while_it_is_reported_is_reported_all_the_same() -> None:
    horde = Horde()
    horde.gate.clear()
    running = asyncio.ensure_future(runner_of(horde).run(Job(popped())))
    await until(lambda: horde.asked)

    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    horde.gate.set()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    assert horde.faulted == ["image-0"]


async def test_a_fault_is_reported_as_long_as_an_answer_counts_for_the_network_may_come_back() -> None:
    horde, job = Horde(), Job(popped())
    await runner_of(horde).run(job)
    assert horde.deadlines == [job.deadline + FAULT_S]


async def test_the_fault_of_a_job_that_is_broken_off_is_reported_for_a_moment_only() -> None:
    horde, job = Horde(), Job(popped())
    running = asyncio.ensure_future(runner_of(horde).run(job))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert horde.faulted == ["image-0"]
    assert horde.deadlines[0] < job.deadline


async def test_a_job_cancelled_while_it_is_reported_in_vain_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FAULT_S", 0.01)
    horde, job = Horde(), Job(popped())
    horde.gate.clear()
    running = asyncio.ensure_future(runner_of(horde).run(job))
    await until(lambda: horde.asked)

    running.cancel()
    async with timeout(PATIENCE_S):
        await running

    assert (job.stage, job.owed) == (Stage.FAULTED, ["image-0"])


async def test_an_image_that_is_being_submitted_when_its_job_is_broken_off_is_not_faulted_as_well() -> None:
    horde, job = Horde(), Job(popped(2))
    horde.gate.clear()
    running = asyncio.ensure_future(runner_of(horde, images=2).run(job))
    await until(lambda: horde.asked == 2)

    running.cancel()
    await asyncio.sleep(0)
    horde.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert sorted((each.id, each.state) for each in horde.submitted) == [("image-0", "ok"), ("image-1", "ok")]
    assert (job.stage, job.fault, job.owed) == (Stage.DONE, "", [])


async def test_a_submit_that_is_not_answered_does_not_hold_up_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SEEN_THROUGH_S", 0.01)
    horde, job = Horde(), Job(popped())
    horde.gate.clear()
    running = asyncio.ensure_future(runner_of(horde, images=1).run(job))
    await until(lambda: horde.asked == 1)

    running.cancel()
    await until(lambda: horde.asked == 2)
    horde.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert horde.faulted == ["image-0"]
    assert len(horde.submitted) == 1


async def test_a_listener_that_fails_costs_no_job_its_answer() -> None:
    events, told, horde = JobEvents(), [], Horde()

    def fail(_: object) -> None:
        raise ZeroDivisionError

    events.subscribe(fail)
    events.subscribe(lambda event: told.append(event.stage))

    await runner_of(horde, events).run(Job(popped()))

    assert horde.faulted == ["image-0"]
    assert (told[0], told[-1]) == (Stage.POPPED, Stage.FAULTED)


class OneAtATime:
    """An admission that wants one pop at a time while no job is under way."""

    def __init__(self, in_flight: JobsInFlight) -> None:
        self._in_flight = in_flight

    def decide(self, *, asking: int, fetch_s: float) -> Admitted | Wait:
        return Wait(0.01, ()) if asking or self._in_flight.jobs else POP


def intake_of(horde: Any, runner: JobRunner | None = None, events: JobEvents | None = None) -> Intake:
    in_flight, events = JobsInFlight(), events or JobEvents()
    admission: Any = OneAtATime(in_flight)
    runner = runner or runner_of(horde, events)
    return Intake(horde, runner, admission, pop_backoff=PopBackoff(), in_flight=in_flight, events=events)


async def test_the_time_to_live_counts_from_the_question_for_its_answer_may_be_slow() -> None:
    horde = Horde(popped())
    asked_at: list[float] = []
    jobs: list[Job] = []
    events = JobEvents()
    events.subscribe(lambda event: jobs.append(event.job))

    async def be_slow() -> None:
        asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.2)

    horde.before_answer = be_slow
    stop = asyncio.Event()
    intake = asyncio.ensure_future(intake_of(horde, runner_of(horde, events)).run(stop))
    await until(lambda: jobs)
    stop.set()
    await intake

    assert jobs[0].popped_at <= asked_at[0]


async def test_a_job_cancelled_before_its_first_step_is_given_back() -> None:
    horde = Horde(popped(2))
    intake = intake_of(horde)
    running = asyncio.ensure_future(intake.run(asyncio.Event()))
    start = intake._start

    def start_and_cancel(*arguments: Any) -> None:
        start(*arguments)
        # As the task group does when another pop is refused for good at this very moment.
        for task in asyncio.all_tasks():
            if task.get_name().startswith("job-"):
                task.cancel()
        running.cancel()

    intake._start = start_and_cancel
    with pytest.raises(asyncio.CancelledError):
        await running

    assert horde.faulted == ["image-0", "image-1"]


async def test_a_requester_is_told_how_well_an_image_is_liked_where_that_is_known() -> None:
    told = [
        [each.model_dump(exclude_none=True) for each in JobRunner._metadata(Job(popped(1)), 0, verdict)]
        for verdict in (Verdict(aesthetic=5.254), Verdict(aesthetic=0.0), Verdict())
    ]
    assert told == [
        [{"type": "aesthetic_score", "value": "see_ref", "ref": "5.25"}],
        [{"type": "aesthetic_score", "value": "see_ref", "ref": "0.00"}],
        [],
    ]


async def test_the_pace_is_that_of_samplers_whatever_else_of_a_graph_makes_progress() -> None:
    """Tiles of upscalers once counted as steps: a family was thought an hour slow after one small job."""

    class Progressing(Engines):
        async def render(self, task: RenderTask) -> list[RawImage]:
            graph = task.prepare(Conditions())[0].graph
            sampler, other = (
                next(node for node, each in graph.items() if word in each["class_type"]) for word in ("Sampler", "VAE")
            )
            for node, steps in ((sampler, 3), (other, 500)):
                for step in range(steps + 1):
                    task.on_progress(Progress("prompt", node, step, steps))
            return await super().render(task)

    job = Job(popped())
    parts: dict[str, Any] = {"horde": Horde(), "engines": Progressing(1), "safety": NoChecker(), "models": Models()}
    runner = JobRunner(library=Library.load, events=JobEvents(), **parts)
    await runner.run(job)
    assert job.delivered == 1
    assert job.sampling.measured(0.0)[0] == 2.0
