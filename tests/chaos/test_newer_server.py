"""Jobs as a newer server than the one in service sends them: fields of horde-sdk that none sends yet, sense or not."""

import json
from typing import Any

import pytest

from worker.demo.horde import hostile
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import Outcome

from .rig import Rig

pytestmark = pytest.mark.chaos

#: What a requester asks for → sampler and scheduler as ComfyUI has them, and what the sampler is told beside.
ASKED: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
    ({"sampler_name": "exp_heun_2_x0"}, ("exp_heun_2_x0", "normal", "")),
    (
        {"sampler_name": "exp_heun_2_x0_sde", "sampler_eta": 0.5, "sampler_solver_type": "phi_1"},
        ("exp_heun_2_x0_sde", "normal", '{"eta": 0.5, "solver_type": "phi_1"}'),
    ),
    ({"sampler_name": "DPMPP_2M", "scheduler": "align_your_steps"}, ("dpmpp_2m", "align_your_steps_sd1", "")),
    ({"scheduler": "gits", "karras": True}, ("euler", "gits", "")),
    ({"scheduler": "of tomorrow", "karras": True}, ("euler", "karras", "")),
    ({"sampler_name": "k_dpm_adaptive", "sampler_order": 99}, ("horde_dpm_adaptive", "normal", '{"order": 3}')),
    ({"sampler_name": "k_lms", "sampler_order": "4"}, ("lms", "normal", '{"order": 4}')),
    ({"sampler_name": "k_euler_a", "sampler_eta": -1e308}, ("euler_ancestral", "normal", '{"eta": 0.0}')),
    ({"sampler_name": "k_euler_a", "sampler_eta": [], "sampler_s_noise": "x"}, ("euler_ancestral", "normal", "")),
    ({"flow_shift": 3.0, "post_processing_order": "upscalers_first"}, ("euler", "normal", "")),
    ({"sampler_name": None, "scheduler": {}, "flow_shift": "nan"}, ("euler", "normal", "")),
    ({"control_type": "depth_anything_v2", "image_is_control": None}, ("euler", "normal", "")),
]


async def test_every_job_of_a_newer_server_is_done_as_asked_or_as_near_as_can_be(rig: Rig) -> None:
    """The server in service refuses these fields, so they are put into what it sends."""
    rig.play()
    left = [asked for asked, _ in ASKED]

    def newer(body: bytes) -> bytes:
        job = json.loads(body)
        job["payload"].update({"sampler_name": "k_euler", "karras": False, **left.pop(0)})
        return hostile.ok(json.dumps(job).encode(), "Content-Type: application/json")

    rig.horde.faults.inject(Route.POP, Fault(FaultKind.HOSTILE, after_effect=True, rewrite=newer), times=10_000)
    async with rig.working():
        for _ in ASKED:
            await rig.done(rig.ask())
    assert set(rig.outcomes()) == {Outcome.OK}
    requests = [job.request for job in rig.jobs]
    found = [(each.sampler, each.scheduler, each.sampler_options) for each in requests if each is not None]
    assert found == [wanted for _, wanted in ASKED]
