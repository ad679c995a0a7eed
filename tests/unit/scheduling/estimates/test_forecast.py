"""How long jobs take, learned from jobs."""

import asyncio
from dataclasses import replace

import pytest

from worker.horde.messages import PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.estimates.forecast import Forecast, share_out
from worker.scheduling.estimates.speed import KINDS, Speed, work_of
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

MODEL = ServedModel("a", Family.STABLE_DIFFUSION_1, {"checkpoint": "a.safetensors"})
KIN = ServedModel("b", Family.STABLE_DIFFUSION_1, {"checkpoint": "b.safetensors"})
STRANGER = ServedModel("c", Family.FLUX_1, {"checkpoint": "c.safetensors"})


def request(model: ServedModel = MODEL, **payload):
    return read_request(
        {"width": 512, "height": 512, "ddim_steps": 20, "sampler_name": "k_euler", **payload}, model=model
    )


def test_work_counts_pixels_steps_images_and_samplers_that_step_twice():
    plain = work_of(request())
    assert plain == pytest.approx(512 * 512 * 20 / 1e6)
    assert work_of(request(n_iter=3)) == pytest.approx(3 * plain)
    assert work_of(request(sampler_name="k_heun")) == pytest.approx(2 * plain)
    assert work_of(request(ddim_steps=40)) == pytest.approx(2 * plain)


def test_nothing_is_estimated_before_anything_was_seen():
    assert Speed().estimate(request()) is None


def test_a_job_like_the_last_takes_as_long_as_the_last():
    speed = Speed()
    speed.learn(request(), 8.0)
    assert speed.estimate(request()) == pytest.approx(8.0)
    assert speed.estimate(request(ddim_steps=40)) == pytest.approx(16.0)


def test_a_model_of_the_same_family_is_the_nearest_kin():
    speed = Speed()
    speed.learn(request(), 8.0)
    assert speed.estimate(request(KIN)) == pytest.approx(8.0)
    assert speed.estimate(request(STRANGER)) is None


def test_the_newest_measurement_weighs_most_but_not_alone():
    speed = Speed()
    for seconds in (8.0, 4.0):
        speed.learn(request(), seconds)
    assert 4.0 < speed.estimate(request()) < 8.0


def test_memory_of_kinds_is_bounded():
    speed = Speed()
    for number in range(KINDS):
        speed.learn(request(replace(MODEL, name=str(number))), 1.0)
    assert len(speed._seconds_per_unit) <= KINDS


def job() -> Job:
    made = Job(PopResponse(id="j", ids=["j"], payload={}, model="a"), popped_at=0.0)
    made.request = request()
    return made


def finish(forecast: Forecast, one: Job, seconds: float) -> None:
    one.started_at, one.rendered_at = 0.0, seconds
    forecast.note(JobEvent(one, Stage.DELIVERING))
    forecast.note(JobEvent(one, Stage.DONE))


def learned(*seconds: float) -> Forecast:
    """A forecast that has seen jobs of so many seconds."""
    forecast = Forecast()
    for each in seconds:
        one = job()
        forecast.note(JobEvent(one, Stage.RENDERING))
        finish(forecast, one, each)
    return forecast


async def test_an_engine_is_idle_now_as_long_as_its_jobs_time_is_unknown():
    forecast = Forecast()
    forecast.note(JobEvent(job(), Stage.RENDERING))
    assert forecast.idle_in_s([1]) == {1: 0.0}


async def test_each_engine_is_idle_when_what_it_has_is_done_and_who_waits_goes_where_it_is_first():
    forecast = learned(8.0)
    here, there, waiting = job(), job(), job()
    for one in (here, there, waiting):
        forecast.note(JobEvent(one, Stage.RENDERING))
    here.slot, there.slot = 1, 2
    here.progress = (10, 20)
    assert forecast.idle_in_s([1, 2, 3]) == pytest.approx({1: 4.0, 2: 8.0, 3: 8.0})
    assert forecast.idle_in_s([1, 2]) == pytest.approx({1: 12.0, 2: 8.0})
    assert forecast.work_in_s([1, 2]) == pytest.approx({1: 4.0, 2: 8.0})
    forecast.note(JobEvent(here, Stage.FAULTED))
    assert forecast.idle_in_s([1]) == pytest.approx({1: 16.0})


async def test_a_job_that_has_sampled_is_done_when_its_usual_time_is_over():
    forecast, decoding, late = learned(8.0), job(), job()
    now = asyncio.get_running_loop().time()
    for one, slot, began in ((decoding, 1, now - 6), (late, 2, now - 60)):
        one.slot, one.started_at, one.progress = slot, began, (20, 20)
        forecast.note(JobEvent(one, Stage.RENDERING))
    idle = forecast.idle_in_s([1, 2])
    assert 1.0 < idle[1] <= 2.0
    assert idle[2] == 0.0


async def test_a_job_that_was_not_done_in_time_says_how_slow_the_engine_is():
    forecast, late, lost = learned(8.0), job(), job()
    for one, progress in ((late, (5, 20)), (lost, (0, 0))):
        forecast.note(JobEvent(one, Stage.RENDERING))
        one.started_at, one.ended_at, one.progress = 0.0, 30.0, progress
        forecast.note(JobEvent(one, Stage.FAULTED))
    assert 30.0 < forecast.unit_s(MODEL) * work_of(request()) < 120.0


@pytest.mark.parametrize(
    ("slots", "jobs", "expected"),
    [
        ([], [(None, 5.0)], {}),
        ([1, 2], [], {1: 0.0, 2: 0.0}),
        ([1, 2], [(1, 5.0), (1, 2.0), (2, 1.0)], {1: 7.0, 2: 1.0}),
        ([1, 2], [(None, 5.0), (None, 3.0), (None, 1.0)], {1: 5.0, 2: 4.0}),
        ([1, 2], [(1, 4.0), (None, 5.0)], {1: 4.0, 2: 5.0}),
        ([1], [(2, 4.0)], {1: 4.0}),
    ],
)
def test_work_is_shared_out_as_it_will_be_done(slots, jobs, expected):
    assert share_out(slots, jobs) == expected


async def test_a_model_load_does_not_count_as_slowness():
    forecast = learned(1.0, 60.0)
    forecast.note(JobEvent(job(), Stage.RENDERING))
    assert forecast.idle_in_s([1])[1] < 3.0


def test_a_model_never_seen_is_as_fast_as_its_family_or_as_another_by_its_weight():
    speed = Speed()
    assert speed.unit_s(MODEL) is None
    for _ in range(2):
        speed.learn(request(), 8.0)
    unit = 8.0 / work_of(request())
    assert speed.unit_s(KIN) == pytest.approx(unit)
    assert speed.unit_s(STRANGER) == pytest.approx(10 * unit)
    for _ in range(2):
        speed.learn(request(STRANGER), 16.0)
    assert speed.unit_s(STRANGER) == pytest.approx(2 * unit)


def test_larger_jobs_are_judged_neither_by_the_job_that_loaded_the_model_nor_by_the_overhead_of_small_ones():
    speed = Speed()
    speed.learn(request(), 90.0)
    assert speed.unit_s(MODEL) is None
    speed.learn(request(), 8.0)
    assert speed.unit_s(MODEL) == pytest.approx(8.0 / work_of(request()))
    for _ in range(20):
        speed.learn(request(width=64, height=64, ddim_steps=4), 20.0)
    assert speed.unit_s(MODEL) == pytest.approx(8.0 / work_of(request()))


def test_a_model_never_seen_is_not_judged_by_the_overhead_of_small_jobs_of_another_family():
    speed = Speed()
    for _ in range(3):
        speed.learn(request(width=128, height=128, ddim_steps=4), 5.4)
    assert speed.unit_s(STRANGER) is None


def test_a_small_job_that_was_too_slow_speaks_for_larger_ones():
    speed = Speed()
    speed.learn(request(width=64, height=64, ddim_steps=4), 200.0, finished=False)
    assert speed.unit_s(MODEL) == 200.0
