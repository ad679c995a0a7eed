"""How long jobs take, learned from jobs."""

from dataclasses import replace

import pytest

from worker.horde.wire import PopResponse
from worker.jobs.forecast import Forecast
from worker.jobs.job import Job, JobEvent, Stage
from worker.jobs.speed import KINDS, Speed, work_of
from worker.workflows.request import Family, ServedModel, read_request

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


async def test_engines_are_idle_now_as_long_as_a_jobs_time_is_unknown():
    forecast = Forecast()
    forecast.note(JobEvent(job(), Stage.RENDERING))
    assert forecast.idle_in_s(1) == 0.0


async def test_what_jobs_under_way_have_left_is_shared_by_the_engines():
    forecast, known = Forecast(), job()
    forecast.note(JobEvent(known, Stage.RENDERING))
    finish(forecast, known, 8.0)
    running, waiting = job(), job()
    for one in (running, waiting):
        forecast.note(JobEvent(one, Stage.RENDERING))
    running.progress = (10, 20)
    assert forecast.idle_in_s(1) == pytest.approx(12.0)
    assert forecast.idle_in_s(2) == pytest.approx(6.0)
    forecast.note(JobEvent(running, Stage.FAULTED))
    assert forecast.idle_in_s(1) == pytest.approx(8.0)


async def test_a_model_load_does_not_count_as_slowness():
    forecast = Forecast()
    for seconds in (1.0, 60.0):
        one = job()
        forecast.note(JobEvent(one, Stage.RENDERING))
        finish(forecast, one, seconds)
    forecast.note(JobEvent(job(), Stage.RENDERING))
    assert forecast.idle_in_s(1) < 3.0


async def test_a_batch_is_no_larger_than_what_its_time_allows():
    forecast = Forecast()
    assert forecast.images_within(90) > 20
    one = job()
    forecast.note(JobEvent(one, Stage.RENDERING))
    finish(forecast, one, 30.0)
    assert forecast.images_within(90) == 3
