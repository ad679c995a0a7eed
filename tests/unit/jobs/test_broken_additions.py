"""LoRAs and textual inversions that engines can't use: left out of requests, remembered for a while, and cleared."""

from dataclasses import replace

import pytest

from tests.clock import ManualClock
from worker.errors import Addition, AdditionKind
from worker.jobs.broken_additions import BROKEN_S, MOST_FILES, BrokenAdditions, additions_in, leave_out
from worker.workflows.payload import read_request
from worker.workflows.request import LoraFile, ServedModel
from worker.workflows.types import Family

MODEL = ServedModel("M", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"})
LORA = Addition(AdditionKind.LORA, "style.safetensors")
TI = Addition(AdditionKind.TEXTUAL_INVERSION, "1234")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broken(clock: ManualClock) -> BrokenAdditions:
    return BrokenAdditions(clock)


def request(prompt: str):
    return replace(
        read_request({"prompt": prompt}, model=MODEL, images=1),
        prompt=prompt,
        loras=(LoraFile("style.safetensors"), LoraFile("other.safetensors")),
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a fox embedding:1234", "a fox "),
        ("(embedding:1234:1.2),a fox", ",a fox"),
        ("embedding:1234, embedding:12345", ", embedding:12345"),
        ("embedding:other", "embedding:other"),
    ],
)
def test_a_textual_inversion_is_taken_out_of_the_text_and_no_other(text: str, left: str) -> None:
    assert leave_out(request(text), {TI}).prompt == left


def test_a_lora_is_left_out_and_no_other() -> None:
    assert [lora.file for lora in leave_out(request("a fox"), {LORA}).loras] == ["other.safetensors"]
    assert leave_out(request("a fox"), set()) == request("a fox")


def test_the_additions_of_a_request_are_its_loras_and_what_its_texts_name() -> None:
    assert additions_in(request("a fox (embedding:1234:1.1)")) == {
        LORA, TI, Addition(AdditionKind.LORA, "other.safetensors"),
    }  # fmt: skip


def test_one_that_is_broken_is_known_for_an_hour(broken: BrokenAdditions, clock: ManualClock) -> None:
    broken.note({LORA})
    assert LORA in broken
    assert TI not in broken
    clock.advance(BROKEN_S)
    assert LORA not in broken


def test_of_several_that_may_be_broken_none_is_left_out_before_it_happens_again(broken: BrokenAdditions) -> None:
    broken.note({LORA, TI})
    assert LORA not in broken
    broken.suspect({LORA})
    assert LORA in broken
    assert TI not in broken


def test_a_job_that_was_rendered_clears_suspicion(broken: BrokenAdditions) -> None:
    for _ in range(5):
        broken.suspect({LORA})
        broken.clear({LORA})
    assert LORA not in broken


def test_memory_is_bounded(broken: BrokenAdditions) -> None:
    for number in range(MOST_FILES + 10):
        broken.note({Addition(AdditionKind.LORA, str(number))})
        broken.suspect({Addition(AdditionKind.TEXTUAL_INVERSION, str(number))})
    assert len(broken._since) == len(broken._suspicions) == MOST_FILES
