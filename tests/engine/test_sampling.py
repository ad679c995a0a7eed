"""What a payload tells a sampler beside its name, schedules from our node pack, the end of dpm_adaptive."""

import pytest

from worker.workflows.samplers import RENAMED, SAME_NAME

from .studio import VISIBLE, difference
from .test_node_modules import NODES, PREAMBLE

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

#: Counts the iterations of the bounded solver on a model that it never gets accurate enough for.
ADAPTIVE = """
from comfy.k_diffusion import sampling
pack = load("sampling")
calls = []
class Rough:
    def __call__(self, x, sigma, **_):
        calls.append(float(sigma[0]))
        return x + torch.sin(x * 50) * sigma[0]
seen = {}
for steps in (1, 2, 4, 10, 31):
    told = []
    sigmas = torch.cat([torch.linspace(14.6, 0.03, steps), torch.zeros(1)])
    calls.clear()
    note = lambda info: told.append(info["i"])
    x = pack.sample_horde_dpm_adaptive(Rough(), torch.randn(1, 4, 8, 8), sigmas, callback=note)
    seen[steps] = [len(told), max(told, default=0), bool(torch.isfinite(x).all())]
print(json.dumps(seen))
"""


@pytest.mark.parametrize("sampler", sorted({*RENAMED, *SAME_NAME, "DDIM"}))
async def test_every_sampler_that_the_horde_may_name_renders(studio, sampler):
    picture = await studio.picture("Tiny SD1.5", sampler_name=sampler, ddim_steps=3)
    assert picture.std() > VISIBLE


async def test_a_sampler_does_what_it_is_told(studio):
    ancestral = await studio.picture("Tiny SD1.5", sampler_name="k_euler_a", ddim_steps=4)
    quiet = await studio.picture("Tiny SD1.5", sampler_name="k_euler_a", ddim_steps=4, sampler_eta=0)
    euler = await studio.picture("Tiny SD1.5", sampler_name="k_euler", ddim_steps=4)
    assert difference(ancestral, quiet) > VISIBLE
    # Without noise of its own it is the plain solver.
    assert difference(quiet, euler) < VISIBLE
    noisy = {"sampler_name": "k_euler_a", "ddim_steps": 4, "sampler_s_noise": 1.5}
    assert difference(await studio.picture("Tiny SD1.5", **noisy), ancestral) > 0


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("k_lms", {"sampler_order": 1}), ("deis", {"sampler_order": 2}), ("ipndm_v", {"sampler_order": 2}),
        ("k_dpm_adaptive", {"sampler_order": 2}), ("k_heun", {"sampler_s_churn": 5.0}),
        ("dpmpp_2m_sde", {"sampler_solver_type": "heun"}),
    ],
)  # fmt: skip
async def test_options_of_every_kind_reach_their_sampler(studio, sampler, options):
    plain = await studio.picture("Tiny SD1.5", sampler_name=sampler, ddim_steps=5)
    told = await studio.picture("Tiny SD1.5", sampler_name=sampler, ddim_steps=5, **options)
    assert difference(plain, told) > 0


@pytest.mark.parametrize("model", ["Tiny SD1.5", "Tiny SDXL"])
# GITS has a list for each number of steps up to 20. Without a negative prompt a step takes half as long.
@pytest.mark.parametrize("steps", [1, 2, 7, 21])
async def test_schedules_of_our_own_render_and_differ(studio, model, steps):
    pictures = [
        await studio.picture(model, scheduler=name, ddim_steps=steps, cfg_scale=1.0)
        for name in ("karras", "align_your_steps", "gits")
    ]
    assert all(picture.std() > VISIBLE for picture in pictures)
    if steps > 1:
        assert min(difference(pictures[0], other) for other in pictures[1:]) > 0


@pytest.mark.parametrize("model", ["Tiny Flux Schnell", "Tiny Flux Split", "Tiny Qwen-Image", "Tiny Z-Image"])
async def test_flow_shift_moves_the_steps_of_flow_models(studio, model):
    asked = {"ddim_steps": 4, "cfg_scale": 1.0}
    plain = await studio.picture(model, **asked)
    shifted = await studio.picture(model, **asked, flow_shift=9.0)
    assert difference(plain, shifted) > 0
    assert shifted.std() > VISIBLE


async def test_dpm_adaptive_ends_after_five_quarters_of_the_steps(in_engine):
    seen = in_engine.run(PREAMBLE + ADAPTIVE, NODES)
    for steps, (iterations, last, finite) in ((int(steps), found) for steps, found in seen.items()):
        assert iterations <= -(-steps * 5 // 4)
        assert last < steps
        assert finite
    assert seen["31"][0] == 39
