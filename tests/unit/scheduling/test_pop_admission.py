"""One answer to whether a job is asked for now: this pop, or wait so long because."""

import asyncio
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clock import ManualClock
from worker.config.schema import BridgeData
from worker.errors import HordeUnreachable, WorkerError
from worker.horde.messages import PopResponse
from worker.jobs.in_flight import JobsInFlight
from worker.jobs.job import Job, JobEvent, Stage
from worker.models.progress import ModelsState
from worker.scheduling import pop_admission
from worker.scheduling.fault_limiter import FaultLimiter
from worker.scheduling.offer import Capabilities, PopPlan
from worker.scheduling.owner_pause import OwnerPause
from worker.scheduling.planner import Capacity
from worker.scheduling.pop_admission import (
    FILES_PATIENCE_S,
    GIB,
    LONGEST_WAIT_S,
    LOOK_AGAIN_S,
    PASSING_S,
    Admission,
    Admitted,
    MachineLimits,
    Wait,
)
from worker.scheduling.pop_backoff import PopBackoff
from worker.scheduling.wait_log import WaitKind

FULL = 1024 * 1024
#: More jobs than any of these workers takes: who takes more takes without end.
MOST_JOBS = 50


class Stand:
    """An admission whose parts all say yes, until a test says otherwise."""

    def __init__(self, **config):
        self.clock = ManualClock(1000.0)
        self.config = BridgeData.model_validate({"max_batch": 4, **config})
        self.names = ("a",)
        self.failed = {}
        self.capacity = Capacity(engines=1, queue=0, idle_in_s=0.0)
        self.plan = PopPlan(("a",), FULL, 4, 1)
        self.withdrawn = {}
        self.found = Capabilities(("a",), frozenset(), 13, "agent")
        self.hold = ""
        self.memory, self.disk = 8 * GIB, 8 * GIB
        self.shortages = {}
        self.slots = [SimpleNamespace(number=1, state=SimpleNamespace(value="resting"))]
        self.jobs = JobsInFlight()
        self.pop_backoff = PopBackoff()
        self.faults = FaultLimiter(clock=self.clock)
        self.pause = OwnerPause()
        machine: Any = SimpleNamespace(wait=lambda _: MachineLimits(Path("folder")).reason(self.memory, self.disk))
        pool: Any = self
        planner: Any = SimpleNamespace(
            capacity=lambda: self.capacity,
            plan=lambda asking: self.plan,
            withdrawn=self.withdrawn,
            size_forgotten_in_s=lambda: 30.0,
        )
        parts: Any = {
            "models": SimpleNamespace(names=lambda: self.names, state=lambda: ModelsState(failed=self.failed)),
            "safety": SimpleNamespace(hold=lambda: self.hold),
        }
        self.admission = Admission(
            config=lambda: self.config, pool=pool, planner=planner, capabilities=lambda: self.found,
            in_flight=self.jobs, pop_backoff=self.pop_backoff, faults=self.faults, machine=machine, pause=self.pause,
            clock=self.clock, **parts,
        )  # fmt: skip

    def decide(self, asking=0, fetch_s=0.0):
        return self.admission.decide(asking=asking, fetch_s=fetch_s)

    def kinds(self, **how):
        decision = self.decide(**how)
        return [reason.kind for reason in decision.reasons] if isinstance(decision, Wait) else []

    def add(self, stage, *, came_ago_s=0.0):
        job = Job(PopResponse(id=str(len(self.jobs.jobs))), popped_at=0.0, received_at=self.clock.now - came_ago_s)
        job.stage = stage
        task: Any = asyncio.get_running_loop().create_future()
        self.jobs.add(job, task)

    def fault(self, images=1):
        job = Job(PopResponse(ids=["i"] * images), popped_at=0.0)
        job.faulted, job.owed = images, []
        self.faults.note(JobEvent(job, Stage.FAULTED))


def test_where_all_is_well_the_planned_pop_is_sent():
    decision = Stand().decide()
    assert isinstance(decision, Admitted)
    assert (decision.request.models, decision.request.max_pixels, decision.request.amount) == (["a"], FULL, 4)


async def test_a_pop_says_whether_an_engine_is_idle_or_it_is_for_the_queue():
    stand = Stand()
    stand.capacity = Capacity(engines=1, queue=1, idle_in_s=0.0)
    assert stand.decide().for_idle_engine
    stand.add(Stage.RENDERING)
    assert not stand.decide().for_idle_engine


def taken(stand, stage, *, came_ago_s=0.0):
    """How many jobs are taken in the end, when each of them comes to a stage and stays there."""
    # A worker that has delivered something is not held back by the risk of all that is under way.
    stand.faults.note(JobEvent(Job(PopResponse(id="done"), popped_at=0.0), Stage.DONE))
    while isinstance(stand.decide(), Admitted) and len(stand.jobs.jobs) < MOST_JOBS:
        stand.add(stage, came_ago_s=came_ago_s)
    assert stand.kinds() == [WaitKind.ENOUGH]
    return len(stand.jobs.jobs)


@pytest.mark.parametrize(("engines", "queue"), [(1, 0), (1, 1), (3, 0), (2, 2)])
async def test_jobs_that_wait_for_their_files_keep_no_engine_idle_but_one_more_each_is_the_most(engines, queue):
    stand = Stand()
    stand.capacity = Capacity(engines, queue, 0.0)
    assert taken(stand, Stage.FETCHING, came_ago_s=FILES_PATIENCE_S) == engines + queue + engines


async def test_a_job_that_has_just_come_is_given_a_moment_for_its_files():
    assert taken(Stand(), Stage.FETCHING) == 1


async def test_jobs_that_want_an_engine_are_as_many_as_the_owner_wants_and_others_do_not_count():
    stand = Stand()
    stand.capacity = Capacity(2, 1, 0.0)
    for stage in (Stage.DELIVERING, Stage.REPORTING):
        stand.add(stage)
    assert taken(stand, Stage.RENDERING) == 3 + 2


async def test_the_queue_is_filled_when_an_engine_is_about_to_run_dry():
    stand = Stand()
    stand.capacity = Capacity(1, 1, idle_in_s=5.0, lead_s=3.0)
    stand.add(Stage.RENDERING)
    assert stand.kinds() == [WaitKind.ENOUGH]
    assert stand.kinds(fetch_s=2.0) == [], "a pop takes so long that the next one must be sent now"
    stand.capacity = Capacity(1, 1, idle_in_s=3.0, lead_s=3.0)
    assert stand.kinds() == []


def test_one_pop_is_under_way_until_pops_bring_jobs():
    stand = Stand()
    stand.capacity = Capacity(8, 0, 0.0)
    assert stand.kinds(asking=1) == [WaitKind.ENOUGH]
    stand.pop_backoff.answered(PopResponse(id="j"), now=stand.clock.now)
    assert stand.kinds(asking=1) == []
    assert stand.kinds(asking=2) == [WaitKind.ENOUGH]


def safety_down(stand):
    stand.hold = "the safety checker is down"


def memory_low(stand):
    stand.memory = GIB // 2


def disk_low(stand):
    stand.disk = GIB // 2


def no_engine(stand):
    stand.capacity = Capacity(0, 0, 0.0)


def card_in_use(stand):
    no_engine(stand)
    stand.shortages = {"cuda:0": "other programs use it"}


def three_faults(stand):
    for _ in range(3):
        stand.fault()


def horde_away(stand):
    stand.pop_backoff.failed(HordeUnreachable("No answer."), now=stand.clock.now)


def no_model(stand):
    stand.names, stand.failed = (), {"b": "no such file"}


def all_withdrawn(stand):
    stand.plan = None
    stand.withdrawn["a"] = "it broke 3 engines in a row"


def size_in_force(stand):
    stand.plan = None


def nothing_servable(stand):
    stand.found = Capabilities((), frozenset(), 13, "agent", (("a", "no template"),))


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (safety_down, WaitKind.SAFETY, "The safety checker is down."),
        (memory_low, WaitKind.MACHINE, "Only 0.5 GiB of memory are free."),
        (disk_low, WaitKind.MACHINE, "disk of folder"),
        (no_engine, WaitKind.ENGINES, "engine 1 is resting"),
        (card_in_use, WaitKind.CARDS, "Device cuda:0: other programs use it."),
        (three_faults, WaitKind.FAULTS, "3 jobs in a row were faulted."),
        (horde_away, WaitKind.HORDE, "No answer."),
        (no_model, WaitKind.MODELS, "No model is here yet: b (no such file)."),
        (all_withdrawn, WaitKind.MODELS, "Every model is withdrawn for now: a (it broke 3 engines in a row)."),
        (size_in_force, WaitKind.SIZE, "larger pictures"),
        (nothing_servable, WaitKind.MODELS, "No model here can be served: a (no template)."),
    ],
)
def test_each_reason_not_to_pop_is_named_and_told_once_it_lasts(spoil, kind, words, warnings):
    stand = Stand()
    spoil(stand)
    decision = stand.decide()
    assert isinstance(decision, Wait)
    assert [reason.kind for reason in decision.reasons] == [kind]
    assert words in decision.reasons[0].sentence
    assert 0 < decision.seconds <= LONGEST_WAIT_S
    for _ in range(3):
        stand.clock.advance(PASSING_S / 2)
        stand.decide()
    assert len(warnings) == 1
    assert words in warnings[0]
    assert [reason.kind for reason in stand.admission.reasons] == [kind]


def test_all_reasons_are_told_and_the_end_of_all_of_them(said):
    stand = Stand()
    three_faults(stand)
    memory_low(stand)
    assert stand.kinds() == [WaitKind.MACHINE, WaitKind.FAULTS]
    stand.clock.advance(PASSING_S)
    stand.decide()
    assert said == [
        "No new jobs for 3 min: 3 jobs in a row were faulted. The log says why each was.",
        "No new jobs: Only 0.5 GiB of memory are free. Close other programs.",
    ]
    stand.memory = 8 * GIB
    stand.decide()
    assert len(said) == 2
    stand.clock.advance(180.0)
    assert stand.kinds() == []
    assert said[2:] == ["Asking for jobs again, after 3 min."]


def test_time_in_which_the_worker_was_held_back_is_no_asking_in_vain():
    stand = Stand()

    def empty_pop_after(seconds):
        stand.clock.advance(seconds)
        stand.decide()
        stand.pop_backoff.answered(PopResponse(), now=stand.clock.now)
        return stand.pop_backoff.all_in_vain_s

    assert empty_pop_after(0.0) == 0.0
    assert empty_pop_after(5.0) == 5.0
    stand.pause.begin(None)
    stand.decide()
    stand.pause.end()
    assert empty_pop_after(40.0) == 5.0
    memory_low(stand)
    stand.decide()
    stand.memory = 8 * GIB
    assert empty_pop_after(40.0) == 5.0
    assert empty_pop_after(5.0) == 10.0


def test_a_pause_of_the_owner_is_told_with_what_ends_it(said):
    stand = Stand()
    stand.pause.begin(None)
    assert stand.kinds() == [WaitKind.OWNER]
    assert said == ["No new jobs: Paused by its owner. `horde-bridge resume` ends it."]
    stand.pause.end()
    assert stand.kinds() == []


def test_what_comes_and_goes_with_every_job_is_not_told(said):
    stand = Stand()
    for number in range(200):
        stand.hold = "images wait for the safety checker" if number % 4 else ""
        stand.decide()
        stand.clock.advance(1.0)
    assert said == []


def test_a_reason_whose_end_is_known_is_waited_for_and_any_other_looked_at_again_soon():
    stand = Stand()
    stand.pop_backoff.answered(PopResponse(), now=stand.clock.now)
    assert stand.decide().seconds == stand.pop_backoff.pauses.empty_s
    safety_down(stand)
    assert stand.decide().seconds == LOOK_AGAIN_S


def test_no_more_images_are_asked_for_than_may_all_be_faulted():
    stand = Stand()
    stand.faults.per_hour = 100
    stand.fault(16)
    assert stand.decide().request.amount == 2
    stand.fault(2)
    assert stand.kinds() == [WaitKind.FAULTS]


def test_an_owner_who_wants_an_end_after_faults_in_a_row_gets_it():
    stand = Stand(exit_on_unhandled_faults=True)
    stand.fault()
    stand.decide()
    three_faults(stand)
    with pytest.raises(WorkerError, match="3 jobs in a row were faulted"):
        stand.decide()


def test_while_it_is_being_found_out_what_can_be_served_nothing_is_asked_for_and_nothing_told(said):
    stand = Stand()
    stand.found = None
    assert stand.kinds() == [WaitKind.ENOUGH]
    stand.clock.advance(2 * PASSING_S)
    stand.decide()
    assert said == []


def test_a_folder_that_is_gone_does_not_end_the_worker(tmp_path):
    machine = MachineLimits(tmp_path / "gone", memory=0)
    assert machine.wait(0.0) is None


def test_a_process_without_a_file_descriptor_left_pops_nothing_and_says_why(tmp_path, monkeypatch):
    def refuse():
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(pop_admission, "system_memory", refuse)
    machine = MachineLimits(tmp_path)
    reason = machine.wait(0.0)
    assert reason
    assert reason.kind is WaitKind.MACHINE
    assert "Too many open files" in reason.sentence
    assert "ulimit -n" in reason.remedy
    monkeypatch.undo()
    assert MachineLimits(tmp_path, memory=0, disk=0).wait(100.0) is None
