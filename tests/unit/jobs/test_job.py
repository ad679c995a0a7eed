"""What the safety checker is told of a job is what its picture is made from."""

from typing import Any

import pytest

from worker.horde.messages import PopResponse
from worker.jobs.job import Job
from worker.workflows.payload import read_request
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

MODEL = ServedModel("a", Family.STABLE_DIFFUSION_1, {"checkpoint": "a.safetensors"})


def job(**payload: Any) -> Job:
    return Job(PopResponse(id="a", ids=["a"], payload=payload), popped_at=0.0)


@pytest.mark.parametrize("prompt", ["a fox", None, 5, ["a", "fox"]])
def test_the_prompt_that_is_checked_is_the_one_that_is_drawn(prompt: Any) -> None:
    made = job(prompt=prompt, seed="1")
    assert read_request(made.pop.payload, model=MODEL).prompt == made.prompt


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, False),
        ({"use_nsfw_censor": True}, True),
        ({"use_nsfw_censor": "true"}, True),
        ({"use_nsfw_censor": "of course"}, True),
        ({"use_nsfw_censor": 1}, True),
        ({"use_nsfw_censor": False}, False),
        ({"use_nsfw_censor": "False"}, False),
        ({"use_nsfw_censor": "no"}, False),
        ({"use_nsfw_censor": None}, False),
    ],
)
def test_only_what_clearly_means_no_leaves_the_censoring_out(asked: dict[str, Any], expected: bool) -> None:
    assert job(**asked).censors_nsfw is expected
