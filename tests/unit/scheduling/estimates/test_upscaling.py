"""How much can be enlarged in time, learned from what was enlarged before."""

import pytest

from tests.clock import ManualClock
from worker.horde.messages import PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.jobs.rendering import Upscaling
from worker.scheduling.estimates import Estimates
from worker.scheduling.estimates.estimates import DELIVERY_S
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

MODEL = ServedModel("a", Family.STABLE_DIFFUSION_1, {"checkpoint": "a.safetensors"})
MEGA = 1e6


def job(*names, side=512, **payload):
    made = Job(PopResponse(id="j", model="a"), popped_at=0.0)
    asked = {"width": side, "height": side, "ddim_steps": 1, "post_processing": list(names), **payload}
    made.request = read_request(asked, model=MODEL)
    return made


def enlarged(estimates, one, *seconds, done=True, share=1.0):
    """The job's upscalers took so many seconds each, or would have."""
    at = 0.0
    for number, took in enumerate(seconds):
        for tile in range(1, 101):
            if tile <= 100 * share:
                one.upscaling.note(f"node {number}", tile, 100, at + tile * took / 100)
        at += took
    one.rendered_at = 1.0 if done else None
    estimates.note(JobEvent(one, Stage.DELIVERING if done else Stage.FAULTED))


@pytest.fixture
def estimates():
    return Estimates(dict, clock=ManualClock())


def test_before_anything_was_enlarged_there_is_time_for_everything(estimates):
    assert estimates.upscale_budget_px(job("RealESRGAN_x4plus").request, 150.0) == float("inf")


def test_what_can_be_enlarged_is_what_the_time_allows_at_the_pace_that_was_seen(estimates):
    one = job("RealESRGAN_x4plus")
    # 512 x 512 in 10 seconds: 38 seconds a megapixel.
    enlarged(estimates, one, 10.0)
    budget = estimates.upscale_budget_px(one.request, DELIVERY_S + 100.0)
    assert budget == pytest.approx(10 * 512 * 512, rel=0.02)
    assert estimates.upscale_budget_px(one.request, DELIVERY_S - 1.0) == 0.0


def test_a_chain_is_counted_with_the_sizes_that_each_of_it_reads(estimates):
    one = job("RealESRGAN_x2plus", "RealESRGAN_x4plus")
    enlarged(estimates, one, 1.0, 4.0)
    unit_s = 5.0 * 0.99 / ((512 * 512 + 1024 * 1024) * 0.99 / MEGA)
    assert estimates.upscale_budget_px(one.request, DELIVERY_S + unit_s) == pytest.approx(MEGA, rel=0.01)


def test_a_job_that_was_not_done_in_time_teaches_by_the_share_it_did_and_one_late_job_changes_nothing(estimates):
    fast, slow = job("RealESRGAN_x4plus"), job("RealESRGAN_x4plus")
    enlarged(estimates, slow, 1000.0, done=False, share=0.2)
    first = estimates.upscale_budget_px(slow.request, DELIVERY_S + 100.0)
    assert first == pytest.approx(0.1 * 512 * 512, rel=0.02)
    enlarged(estimates, fast, 1.0)
    assert estimates.upscale_budget_px(fast.request, DELIVERY_S + 1.0) == pytest.approx(512 * 512, rel=0.02)
    enlarged(estimates, job("RealESRGAN_x4plus"), 1000.0, done=False, share=0.2)
    assert estimates.upscale_budget_px(fast.request, DELIVERY_S + 1.0) == pytest.approx(512 * 512, rel=0.02)


def test_upscalers_of_one_job_say_nothing_of_how_fast_its_model_samples(estimates):
    one = job("RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B")
    one.sampling.note("3", 0, 0.0)
    one.sampling.note("3", 1, 1.0)
    enlarged(estimates, one, 100.0, 2000.0, done=False, share=0.5)
    assert estimates.size_limit(MODEL, "cuda:0", max_pixels=1024 * 1024, start_s=0.0) is None


@pytest.mark.parametrize("looks", [[], [(0, 0)], [(5, 0)], [(-1, 10)], [(11, 10)], [(float("nan"), 10)], [(5, 10)]])
def test_progress_that_makes_no_sense_is_nothing_to_learn_from(estimates, looks):
    one, upscaling = job("RealESRGAN_x4plus"), Upscaling()
    for value, maximum in looks:
        upscaling.note("node", value, maximum, 1.0)
    one.upscaling, one.rendered_at = upscaling, 1.0
    estimates.note(JobEvent(one, Stage.DELIVERING))
    assert estimates.upscale_budget_px(one.request, 150.0) == float("inf")
