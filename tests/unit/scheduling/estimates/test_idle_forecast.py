"""How long jobs take, learned from jobs."""

import asyncio
from dataclasses import replace

import pytest

from worker.horde.messages import PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.jobs.rendering import Sampling
from worker.scheduling.estimates.idle_forecast import Forecast, share_out
from worker.scheduling.estimates.speed import MOST_KINDS, RETRY_S, JobTimes, SamplerSpeed, work_of
from worker.workflows.payload import read_request
from worker.workflows.request import RenderRequest, ServedModel
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
    assert JobTimes().estimate(request()) is None


def test_a_job_like_the_last_takes_as_long_as_the_last():
    speed = JobTimes()
    speed.learn(request(), 8.0)
    assert speed.estimate(request()) == pytest.approx(8.0)
    assert speed.estimate(request(ddim_steps=40)) == pytest.approx(16.0)


def test_a_model_of_the_same_family_is_the_nearest_kin():
    speed = JobTimes()
    speed.learn(request(), 8.0)
    assert speed.estimate(request(KIN)) == pytest.approx(8.0)
    assert speed.estimate(request(STRANGER)) is None


def test_the_newest_measurement_weighs_most_but_not_alone():
    speed = JobTimes()
    for seconds in (8.0, 4.0):
        speed.learn(request(), seconds)
    assert 4.0 < speed.estimate(request()) < 8.0


def test_memory_of_kinds_is_bounded():
    speed = JobTimes()
    for number in range(MOST_KINDS + 10):
        speed.learn(request(replace(MODEL, name=str(number))), 1.0)
    assert len(speed._seconds_per_unit) == MOST_KINDS


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
    forecast = Forecast(JobTimes())
    for each in seconds:
        one = job()
        forecast.note(JobEvent(one, Stage.RENDERING))
        finish(forecast, one, each)
    return forecast


async def test_an_engine_is_idle_now_as_long_as_its_jobs_time_is_unknown():
    forecast = Forecast(JobTimes())
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


def sampled(*jobs: tuple[RenderRequest, float], finished: bool = True) -> SamplerSpeed:
    """What is known after jobs whose every step took so many seconds."""
    speed = SamplerSpeed()
    for asked, step_s in jobs:
        speed.learn(asked, 0.0, steps=asked.steps - 1, seconds=(asked.steps - 1) * step_s, finished=finished)
    return speed


def test_pace_is_seconds_of_a_megapixelstep_whatever_share_of_the_steps_was_done():
    speed = SamplerSpeed()
    speed.learn(request(), 0.0, steps=5, seconds=10.0, finished=False)
    assert speed.of(MODEL, 0.0).unit_s == pytest.approx(10.0 / (5 * 512 * 512 / 1e6))


def test_a_model_never_seen_is_as_fast_as_its_family_or_as_another_by_its_weight():
    assert SamplerSpeed().of(MODEL, 0.0) is None
    one, unit = (request(), 0.4), 0.4 / (512 * 512 / 1e6)
    assert sampled(one).of(KIN, 0.0) is None, "one job alone says nothing of other models"
    speed = sampled(one, one)
    assert speed.of(KIN, 0.0).unit_s == pytest.approx(unit)
    assert speed.of(STRANGER, 0.0).unit_s == pytest.approx(10 * unit)
    assert not speed.of(KIN, 0.0).may_withdraw
    assert not speed.of(STRANGER, 0.0).may_withdraw
    speed = sampled(one, one, *[(request(STRANGER), 0.8)] * 2)
    assert speed.of(STRANGER, 0.0).unit_s == pytest.approx(2 * unit)


def test_the_faster_of_the_last_two_jobs_counts():
    unit = 512 * 512 / 1e6
    assert sampled((request(), 0.4), (request(), 90.0)).of(MODEL, 0.0).unit_s == pytest.approx(0.4 / unit)
    slow = sampled((request(), 0.4), (request(), 90.0), (request(), 80.0))
    assert slow.of(MODEL, 0.0).unit_s == pytest.approx(80.0 / unit)
    assert slow.of(MODEL, 0.0).may_withdraw
    assert not slow.of(MODEL, RETRY_S).may_withdraw


def test_larger_jobs_are_not_judged_by_the_overhead_of_small_ones_but_by_small_ones_that_were_too_slow():
    small = request(width=64, height=64, ddim_steps=4)
    assert sampled((small, 5.0), (small, 5.0)).of(MODEL, 0.0) is None
    late = sampled((small, 50.0), (small, 50.0), finished=False)
    assert late.of(MODEL, 0.0).unit_s == pytest.approx(200.0)


def test_a_sampler_without_a_step_is_as_slow_as_it_has_taken_so_far():
    sampling = Sampling()
    sampling.note("3", 0, 10.0)
    assert sampling.measured(130.0) == (1.0, 120.0)
    sampling.note("3", 1, 140.0)
    assert sampling.measured(150.0) == (0.0, 0.0), "of one step nobody knows how long a load before it took"
    sampling.note("3", 3, 144.0)
    sampling.note("7", 0, 200.0)
    sampling.note("7", 1, 210.0)
    sampling.note("7", 2, 212.0)
    assert sampling.measured(300.0) == (3.0, 6.0), "what lies between two samplers does not count"
