import pytest

from worker.workflows.node_classes import snapshot
from worker.workflows.samplers import DIVERGING, RENAMED, SAME_NAME, SCHEDULERS, sampler_for, scheduler_for
from worker.workflows.types import Family


@pytest.mark.parametrize(
    ("horde", "comfy"),
    [
        ("k_euler", "euler"),
        ("k_euler_a", "euler_ancestral"),
        ("k_heun", "heun"),
        ("k_dpm_2", "dpm_2"),
        ("k_dpm_2_a", "dpm_2_ancestral"),
        ("k_lms", "lms"),
        ("k_dpm_fast", "dpm_fast"),
        ("k_dpm_adaptive", "dpm_adaptive"),
        ("k_dpmpp_2s_a", "dpmpp_2s_ancestral"),
        ("k_dpmpp_sde", "dpmpp_sde"),
        ("k_dpmpp_2m", "dpmpp_2m"),
        ("DDIM", "ddim"),
        ("lcm", "lcm"),
        ("dpmsolver", "dpmpp_2m"),
        ("plms", "euler"),
        ("uni_pc", "uni_pc"),
        (" K_EULER ", "euler"),
        ("res_multistep", "res_multistep"),
        ("nonsense", "euler"),
        ("", "euler"),
        (None, "euler"),
        (7, "euler"),
    ],
)
def test_sampler_names_become_those_of_comfyui(horde: object, comfy: str) -> None:
    assert sampler_for(horde) == comfy


def test_comfyui_has_every_sampler_and_scheduler_that_can_come_out() -> None:
    inputs = snapshot()["KSampler"]["input"]["required"]
    assert {*RENAMED.values(), *SAME_NAME} <= set(inputs["sampler_name"][0])
    assert {*SCHEDULERS, *DIVERGING.values()} <= set(inputs["scheduler"][0])


@pytest.mark.parametrize(
    ("family", "asked", "karras", "expected"),
    [
        (Family.STABLE_DIFFUSION_1, None, True, "karras"),
        (Family.STABLE_DIFFUSION_1, None, False, "normal"),
        (Family.STABLE_DIFFUSION_XL, "exponential", True, "exponential"),
        (Family.STABLE_DIFFUSION_XL, "Simple", False, "simple"),
        (Family.STABLE_DIFFUSION_XL, "nonsense", True, "karras"),
        (Family.FLUX_SCHNELL, None, True, "normal"),
        (Family.FLUX_1, "karras", True, "normal"),
        (Family.STABLE_CASCADE, "karras", True, "simple"),
        (Family.QWEN_IMAGE, None, True, "simple"),
        (Family.Z_IMAGE_TURBO, "beta", True, "beta"),
    ],
)
def test_the_scheduler_is_the_familys_or_the_asked_one_or_the_flags(
    family: Family, asked: str | None, karras: bool, expected: str
) -> None:
    assert scheduler_for(family, asked=asked, karras=karras) == expected
