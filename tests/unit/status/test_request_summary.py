"""What a job asks for is told in bounded words, whatever its payload holds."""

import pytest

from worker.horde.messages import PopResponse
from worker.status.request_summary import LARGEST, LONGEST_NAME, summary_of

PAYLOAD = {"prompt": "a fox", "width": 512, "height": 768, "ddim_steps": 30, "sampler_name": "k_euler", "seed": "1"}


def asked(*, ids=("9755d4c1-aaaa",), model="Deliberate", source=None, processing="img2img", **payload):
    return summary_of(
        PopResponse(
            ids=list(ids), payload={**PAYLOAD, **payload}, model=model, ttl=150,
            source_image=source, source_processing=processing,
        )
    )  # fmt: skip


def test_a_plain_job_has_no_features():
    plain = asked()
    assert (plain.kind, plain.features, plain.details) == ("txt2img", (), ())
    assert (plain.width, plain.height, plain.steps, plain.images, plain.sampler) == (512, 768, 30, 1, "k_euler")


def test_what_makes_a_job_special_is_told():
    special = asked(
        ids=("a", "b"), control_type="canny", loras=[{"name": "1"}, {"name": "2"}], tis=[{"name": "3"}],
        hires_fix=True, post_processing=["GFPGAN"], workflow="qr_code",
    )  # fmt: skip
    assert special.features == (
        "lora", "textual_inversion", "controlnet", "hires_fix", "post_processing", "workflow", "batch",
    )  # fmt: skip
    assert special.details == (
        "2 images", "ControlNet canny", "2 LoRA", "1 TI", "hires fix", "then GFPGAN", "qr_code",
    )  # fmt: skip


def test_a_job_with_a_picture_is_of_the_kind_that_it_names():
    assert asked(source="https://a/b", processing="inpainting").kind == "inpainting"
    assert asked(source="https://a/b", processing="inpainting").features == ("inpainting",)
    assert asked(source="https://a/b", processing="what\nelse").kind == "img2img"


@pytest.mark.parametrize(
    "payload",
    [{"loras": 7}, {"width": None}, {"post_processing": "x"}, {"sampler_name": None}, {"width": "x"}, {"steps": []}],
)
def test_a_payload_that_makes_no_sense_is_told_all_the_same(payload):
    assert asked(**payload).model == "Deliberate"


def test_numbers_and_names_from_outside_are_bounded():
    odd = asked(model="x\n00:00:00 ERROR fake" + "y" * 500, width=10**30, ddim_steps=-5)
    assert "\n" not in odd.model
    assert len(odd.model) <= LONGEST_NAME + 1
    assert (odd.width, odd.steps) == (LARGEST, 0)
    assert asked(width=float("inf")).width == 0
