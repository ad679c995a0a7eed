"""Every job leaves lines in the log that say what was asked, how fast it went, and what it brought."""

import pytest
from loguru import logger

from worker.console.job_log import LONGEST_NAME, describe_request, log_job_event, render_speed
from worker.horde.messages import PopResponse
from worker.jobs.job import Job, JobEvent, Stage
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

PAYLOAD = {"prompt": "a fox", "width": 512, "height": 768, "ddim_steps": 30, "sampler_name": "k_euler", "seed": "1"}
MODEL = ServedModel("Deliberate", Family.STABLE_DIFFUSION_1, {"checkpoint": "d.safetensors"})


def job(*, ids=("9755d4c1-aaaa",), model="Deliberate", **payload):
    pop = PopResponse(ids=list(ids), payload={**PAYLOAD, **payload}, model=model, ttl=150)
    return Job(pop, popped_at=100.0)


@pytest.fixture
def said():
    lines = []
    sink = logger.add(lambda message: lines.append((message.record["level"].name, message.record["message"])))
    yield lines
    logger.remove(sink)


def test_a_plain_job_is_told_in_one_line():
    assert describe_request(job()) == "Deliberate, 512x768, 30 steps k_euler, 150 s to live"


def test_what_makes_a_job_special_is_told():
    text = describe_request(
        job(
            ids=("a", "b"), control_type="canny", loras=[{"name": "1"}, {"name": "2"}], tis=[{"name": "3"}],
            hires_fix=True, post_processing=["GFPGAN"], workflow="qr_code",
        )
    )  # fmt: skip
    assert text == (
        "Deliberate, 512x768, 30 steps k_euler, 2 images, ControlNet canny, 2 LoRA, 1 TI, hires fix, then GFPGAN, "
        "qr_code, 150 s to live"
    )


@pytest.mark.parametrize("payload", [{"loras": 7}, {"width": None}, {"post_processing": "x"}, {"sampler_name": None}])
def test_a_payload_that_makes_no_sense_is_told_all_the_same(payload):
    assert "Deliberate" in describe_request(job(**payload))


def test_names_from_outside_can_not_fake_lines():
    text = describe_request(job(model="x\n00:00:00 ERROR fake" + "y" * 500))
    assert "\n" not in text
    assert len(text) < LONGEST_NAME + 100


def test_the_pace_counts_every_step_of_every_image():
    done = job(n_iter=2)
    done.request = read_request({**PAYLOAD, "n_iter": 2}, model=MODEL)
    done.started_at, done.rendered_at = 101.0, 111.0
    assert render_speed(done) == " in 10.0 s, 6.0 steps/s"


def test_a_delivered_job_is_told_with_what_it_brought(said):
    done = job()
    done.request = read_request(PAYLOAD, model=MODEL)
    done.kudos, done.ended_at = 12.34, 108.0
    log_job_event(JobEvent(done, Stage.DONE))
    assert said == [
        ("SUCCESS", "Job 9755d4c1: submitted, 12.3 kudos, 8.0 s since the pop (Deliberate, 512x768)"),
    ]
