import pytest

from tests.newer_comfyui import newer_snapshot
from worker.workflows.families import TRAITS
from worker.workflows.node_classes import snapshot
from worker.workflows.samplers import (
    DIVERGING,
    RENAMED,
    SAME_NAME,
    SCHEDULERS,
    for_engine,
    options_for,
    sampler_for,
    scheduler_for,
)
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
        ("k_dpm_adaptive", "horde_dpm_adaptive"),
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
    listed = set(inputs["sampler_name"][0])
    assert {*RENAMED.values(), *SAME_NAME} - listed == {"exp_heun_2_x0", "exp_heun_2_x0_sde"}
    assert {for_engine(name, listed, "none") for name in (*RENAMED.values(), *SAME_NAME)} <= listed
    own = {name for traits in TRAITS.values() for name in traits.schedulers.values()}
    assert {*SCHEDULERS, *DIVERGING.values(), *own} <= set(inputs["scheduler"][0])
    newer = newer_snapshot()[1]["KSampler"]["input"]["required"]["sampler_name"][0]
    assert {*RENAMED.values(), *SAME_NAME} <= set(newer)


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
        (Family.STABLE_DIFFUSION_1, "align_your_steps", True, "align_your_steps_sd1"),
        (Family.STABLE_DIFFUSION_XL, " Align_Your_Steps ", False, "align_your_steps_sdxl"),
        (Family.STABLE_DIFFUSION_1, "gits", True, "gits"),
        (Family.STABLE_DIFFUSION_2_768, "gits", True, "karras"),
        (Family.FLUX_1, "align_your_steps", True, "normal"),
        (Family.QWEN_IMAGE, "gits", True, "simple"),
        (Family.STABLE_DIFFUSION_1, "align_your_steps_sd1", False, "normal"),
        (Family.STABLE_DIFFUSION_1, ["karras"], False, "normal"),
    ],
)
def test_the_scheduler_is_the_familys_or_the_asked_one_or_the_flags(
    family: Family, asked: str | None, karras: bool, expected: str
) -> None:
    assert scheduler_for(family, asked=asked, karras=karras) == expected


@pytest.mark.parametrize(
    ("sampler", "payload", "told"),
    [
        ("euler_ancestral", {"sampler_eta": 0.5, "sampler_s_noise": 1.1}, '{"eta": 0.5, "s_noise": 1.1}'),
        ("euler_ancestral", {"sampler_eta": -3, "sampler_s_noise": 1e300}, '{"eta": 0.0, "s_noise": 100.0}'),
        ("euler_ancestral_cfg_pp", {"sampler_eta": 7}, '{"eta": 1.0}'),
        ("euler_ancestral", {"sampler_s_churn": 5, "sampler_order": 3, "sampler_solver_type": "heun"}, ""),
        ("euler", {"sampler_s_churn": "12.5", "sampler_s_tmax": "inf"}, '{"s_churn": 12.5, "s_tmax": 1000000.0}'),
        ("euler", {"sampler_s_churn": [5], "sampler_s_tmin": {}, "sampler_s_noise": True, "sampler_s_tmax": "nan"}, ""),
        ("deis", {"sampler_order": 9}, '{"max_order": 4}'),
        ("deis", {"sampler_order": 1.9}, '{"max_order": 2}'),
        ("horde_dpm_adaptive", {"sampler_order": 2, "sampler_eta": 0.3}, '{"eta": 0.3, "order": 2}'),
        ("dpmpp_2m_sde", {"sampler_solver_type": " Midpoint "}, '{"solver_type": "midpoint"}'),
        ("dpmpp_2m_sde", {"sampler_solver_type": "phi_1"}, ""),
        ("seeds_2", {"sampler_solver_type": "phi_1"}, '{"solver_type": "phi_1"}'),
        ("seeds_2", {"sampler_solver_type": ["phi_1"]}, ""),
        ("dpmpp_2m", {"sampler_eta": 1}, ""),
        ("euler", {"sampler_s_churn": 10**400}, ""),
        ("euler", {}, ""),
    ],
)
def test_a_sampler_is_told_what_it_takes_within_its_bounds(sampler: str, payload: dict[str, object], told: str) -> None:
    assert options_for(sampler, payload) == told


@pytest.mark.parametrize(
    ("name", "listed", "lacking", "taken"),
    [
        ("horde_dpm_adaptive", {"horde_dpm_adaptive", "dpm_adaptive", "euler"}, (), "horde_dpm_adaptive"),
        ("horde_dpm_adaptive", {"horde_dpm_adaptive", "dpm_adaptive"}, ("horde_dpm_adaptive",), "dpm_adaptive"),
        ("exp_heun_2_x0_sde", {"seeds_2"}, (), "seeds_2"),
        ("exp_heun_2_x0_sde", {"heun"}, (), "euler"),
        ("er_sde", {"heun"}, (), "euler"),
        ("er_sde", (), (), "er_sde"),
        ("gits", (), ("gits",), "karras"),
    ],
)
def test_an_engine_without_a_sampler_takes_the_nearest(name, listed, lacking, taken) -> None:
    assert for_engine(name, listed, "euler", lacking=lacking) == taken
