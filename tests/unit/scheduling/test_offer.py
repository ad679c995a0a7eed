"""What is offered follows from templates, files and settings; each gate of the server's table has its test."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.clock import ManualClock
from worker.aio import timeout
from worker.config.schema import BridgeData
from worker.horde.agent import bridge_agent
from worker.horde.feature_levels import GATES, Gate
from worker.scheduling.offer import (
    LOOK_EVERY_S,
    SWITCHES,
    Capabilities,
    CapabilityWatch,
    PopPlan,
    _tell,
    build_offer,
    decide,
)
from worker.workflows.auxiliary_files import FACE_FIXERS, STRIP_BACKGROUND, UPSCALERS
from worker.workflows.capabilities import (
    NEW_PROCESSORS,
    OLD_PROCESSORS,
    Ability,
    Probe,
    Survey,
    obstacle,
    probes_for,
    survey,
)
from worker.workflows.families import TRAITS
from worker.workflows.library import Library
from worker.workflows.payload import lora_wishes
from worker.workflows.request import ServedModel
from worker.workflows.types import Family

#: For everything a test waits for.
PATIENCE_S = 60.0
AGENT = bridge_agent("13.0.0", "https://example.invalid")
FUSED = {"checkpoint": "a.safetensors"}
SD1 = ServedModel("SD1", Family.STABLE_DIFFUSION_1, FUSED)
SD2 = ServedModel("SD2", Family.STABLE_DIFFUSION_2_512, FUSED)
SDXL = ServedModel("SDXL", Family.STABLE_DIFFUSION_XL, FUSED)
FLUX = ServedModel("Flux", Family.FLUX_SCHNELL, FUSED)
QR_SD1 = next(filter(None, [TRAITS[SD1.family].qr_controlnet])).name
CASCADE = ServedModel("Cascade", Family.STABLE_CASCADE, {"stage_b": "b", "stage_c": "c"})
EVERYTHING = dict.fromkeys(SWITCHES, True)


def config(**keys: Any) -> BridgeData:
    return BridgeData.model_validate({**EVERYTHING, **keys})


def opened_by(made: Capabilities) -> set[Gate]:
    """All that a worker of this level may be offered."""
    return {gate for level, gates in GATES.items() if level <= made.level for gate in gates}


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


@pytest.fixture
def offered(library: Library) -> Callable[..., Capabilities]:
    """What is offered of models, without some files and pieces."""

    def ask(*models: ServedModel, without: Iterable[str] = (), off: Iterable[str] = (), **keys: Any) -> Capabilities:
        left = library.without({name: ["switched off"] for name in off})
        found = survey(left, models, lambda file: file.name not in set(without))
        return decide(config(**keys), found, AGENT)

    return ask


def failing(*abilities: Ability, models: Iterable[ServedModel] = (SD1, SDXL)) -> Survey:
    """A survey in which these can't be done with any model."""
    models = tuple(models)
    return Survey(models, {ability: {model.name: "broken" for model in models} for ability in abilities})


def test_the_processors_are_those_of_the_hordes_list():
    assert set(OLD_PROCESSORS) | set(NEW_PROCESSORS) == {*FACE_FIXERS, *UPSCALERS, STRIP_BACKGROUND} - {
        "4x_NMKD_Superscale_SP"
    }


def test_what_all_works_is_offered_with_every_switch_at_the_highest_level():
    made = decide(config(), Survey((SD1, SDXL, FLUX, CASCADE), {}), AGENT)
    assert made.models == ("SD1", "SDXL", "Flux", "Cascade")
    assert made.switches == set(SWITCHES)
    assert (made.level, made.agent, made.off) == (13, AGENT, ())


def test_what_the_owner_does_not_allow_is_not_offered_whatever_works():
    made = decide(BridgeData.model_validate(dict.fromkeys(SWITCHES, False)), Survey((SD1,), {}), AGENT)
    assert made.switches == frozenset()


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_is_off_when_one_kind_of_job_that_it_lets_in_does_not_work(switch):
    for ability in SWITCHES[switch]:
        made = decide(config(), failing(ability), AGENT)
        assert switch not in made.switches
        assert dict(made.off)[switch] == "SD1: broken"
        assert made.switches == set(SWITCHES) - {switch}


def test_a_model_that_no_template_serves_is_not_offered(offered: Callable[..., Capabilities]):
    unknown = ServedModel("Odd", Family.QWEN_IMAGE, FUSED)
    made = offered(SD1, unknown)
    assert made.models == ("SD1",)
    assert "the model has no file for" in dict(made.off)["Odd"]


def test_without_a_control_net_file_no_controlnet_is_offered(offered: Callable[..., Capabilities]):
    for missing in ("control_seg_fp16.safetensors", "annotator/ckpts/res101.pth"):
        made = offered(SD1, SD2, without=[missing])
        assert "allow_controlnet" not in made.switches
        assert missing in dict(made.off)["allow_controlnet"]
    assert "allow_controlnet" in offered(SD1, SD2).switches


def test_without_the_annotator_node_no_controlnet_is_offered(offered: Callable[..., Capabilities]):
    assert "allow_controlnet" not in offered(SD1, off=["fragments/annotate"]).switches
    assert "allow_controlnet" not in offered(SD1, off=["control/map"]).switches


def test_control_nets_of_other_families_are_nobodys_concern(offered: Callable[..., Capabilities]):
    """The server takes no ControlNet jobs for them."""
    assert "allow_controlnet" in offered(SDXL, FLUX).switches


def test_of_control_nets_an_inpainting_model_is_asked_for_maps_only(offered: Callable[..., Capabilities]):
    """No ControlNet was made for one, as none was for SDXL."""
    inpainting = ServedModel("Inpainting", Family.STABLE_DIFFUSION_1, FUSED, inpainting=True)
    asked = [probe.payload for probe in probes_for(Ability.CONTROL, inpainting)]
    assert asked
    assert all(payload.get("return_control_map") for payload in asked)
    assert "allow_controlnet" in offered(SD1, inpainting).switches
    assert "allow_controlnet" not in offered(inpainting, off=["control/map"]).switches


def test_without_the_lora_fragment_no_loras_are_offered(offered: Callable[..., Capabilities]):
    assert "allow_lora" not in offered(SD1, off=["fragments/lora"]).switches


def test_an_engine_without_our_nodes_offers_no_pictures_as_a_source(offered: Callable[..., Capabilities]):
    made = offered(SD1, SDXL, off=["fragments/picture", "fragments/annotate", "control/map", "qr_code/checkpoint"])
    assert made.models == ("SD1", "SDXL")
    assert made.switches.isdisjoint({"allow_img2img", "allow_painting", "allow_controlnet", "allow_sdxl_controlnet"})
    assert "allow_lora" in made.switches


# Each gate that opens above the lowest level: offered where it works, held back where it does not.


def test_lora_versions_and_lcm_need_no_more_than_loras_and_samplers(library: Library):
    """What opens at 3 is in the request itself: a LoRA comes resolved, a sampler has a solver of its own."""
    lcm = Probe({"sampler_name": "lcm"}).request(SD1)
    assert lcm.sampler == "lcm"
    assert obstacle(library, lcm, lambda _: True, set()) == ""
    assert [wish.is_version for wish in lora_wishes({"loras": [{"name": "1", "is_version": True}]})] == [True]
    assert obstacle(library, Probe(loras=1).request(SD1), lambda _: True, set()) == ""


def test_cascade_that_can_not_remix_is_not_offered_and_costs_no_level(offered: Callable[..., Capabilities]):
    made = offered(SD1, CASCADE, off=["fragments/remix_extra"])
    assert made.models == ("SD1",)
    assert "Cascade" in dict(made.off)
    assert Gate.EXTRA_SOURCES in opened_by(made)


def test_cascade_without_a_second_pass_is_not_offered_and_costs_no_level(offered: Callable[..., Capabilities]):
    made = offered(SD1, CASCADE, off=["fragments/hires_cascade"])
    assert made.models == ("SD1",)
    assert Gate.CASCADE_TWO_PASSES in opened_by(made)
    assert "Cascade" in offered(SD1, CASCADE).models


def test_qr_codes_that_no_switch_holds_back_hold_the_level_down(offered: Callable[..., Capabilities]):
    without = [QR_SD1]
    made = offered(SD1, without=without)
    assert (made.level, made.agent) == (6, bridge_agent("6.0.0", "https://example.invalid"))
    assert without[0] in dict(made.off)["QR codes"]
    # With a model of SDXL the server asks for the switch, which is off then.
    made = offered(SD1, SDXL, without=without)
    assert made.level > 6
    assert "allow_sdxl_controlnet" not in made.switches
    # For other families there are none.
    assert offered(SD2, FLUX, without=without).level > 6


def test_transparent_pictures_have_a_switch_and_hold_no_level_down():
    made = decide(config(), failing(Ability.TRANSPARENT), AGENT)
    assert "allow_sdxl_controlnet" not in made.switches
    assert made.level == 13


@pytest.mark.parametrize("own", ["AI Horde Worker reGen:8.0.0:u", "Another Worker:13.0.0:u"])
def test_no_flux_is_listed_under_a_name_that_may_not_have_it(own):
    """The server would offer nothing at all."""
    made = decide(config(bridge_agent=own), Survey((SD1, FLUX), {}), AGENT)
    assert made.models == ("SD1",)
    assert made.agent == own
    assert "level 9" in dict(made.off)["Flux"]


def test_no_flux_is_listed_when_the_level_is_held_down(offered: Callable[..., Capabilities]):
    made = offered(SD1, FLUX, without=[QR_SD1])
    assert (made.models, made.level) == (("SD1",), 6)


def test_no_cascade_is_listed_below_its_level():
    made = decide(config(bridge_agent="AI Horde Worker reGen:5.0.0:u"), Survey((SD1, CASCADE), {}), AGENT)
    assert made.models == ("SD1",)


def test_processors_for_newer_workers_hold_the_level_down_and_the_old_ones_stay():
    made = decide(config(), failing(Ability.NEW_POST_PROCESSING), AGENT)
    assert made.level == 9
    assert "allow_post_processing" in made.switches
    closed = decide(config(allow_post_processing=False), failing(Ability.NEW_POST_PROCESSING), AGENT)
    assert closed.level == 13


TESTS = {
    Gate.LORA_VERSIONS: test_lora_versions_and_lcm_need_no_more_than_loras_and_samplers,
    Gate.LCM: test_lora_versions_and_lcm_need_no_more_than_loras_and_samplers,
    Gate.EXTRA_SOURCES: test_cascade_that_can_not_remix_is_not_offered_and_costs_no_level,
    Gate.CASCADE_TWO_PASSES: test_cascade_without_a_second_pass_is_not_offered_and_costs_no_level,
    Gate.QR_CODE: test_qr_codes_that_no_switch_holds_back_hold_the_level_down,
    Gate.TRANSPARENT: test_transparent_pictures_have_a_switch_and_hold_no_level_down,
    Gate.FLUX: test_no_flux_is_listed_under_a_name_that_may_not_have_it,
    Gate.NEW_POST_PROCESSING: test_processors_for_newer_workers_hold_the_level_down_and_the_old_ones_stay,
}


def test_every_gate_above_the_lowest_level_has_its_test():
    assert {gate for level, gates in GATES.items() if level > 2 for gate in gates} == TESTS.keys()


def test_what_comes_without_a_switch_or_a_gate_is_named(offered: Callable[..., Capabilities]):
    made = decide(config(), failing(Ability.TILING), AGENT)
    assert dict(made.unavoidable) == {"tiling": "SD1: broken"}


# The offer itself.


def test_no_model_means_no_offer():
    made = decide(config(), Survey((), {}), AGENT)
    assert build_offer(config(), made, PopPlan(("SD1",), max_pixels=1, amount=1, threads=1)) is None


def test_the_offer_says_what_was_decided():
    made = decide(config(), failing(Ability.LORAS), AGENT)
    request = build_offer(config(), made, PopPlan(("SDXL", "SD1", "Unknown"), max_pixels=4096, amount=3, threads=99))
    assert request is not None
    assert (request.allow_lora, request.allow_img2img, request.amount, request.threads) == (False, True, 3, 50)
    assert (request.bridge_agent, request.models) == (AGENT, ["SDXL", "SD1"])


async def settled(watch: CapabilityWatch, settings: BridgeData, *models: ServedModel) -> Capabilities:
    """What is found in the end."""
    before = watch._found
    watch.capabilities(settings, models)
    async with timeout(PATIENCE_S):
        while watch._surveying or watch._found is before:
            await asyncio.sleep(0.001)
    found = watch.capabilities(settings, models)
    assert found is not None
    return found


async def test_a_file_that_comes_changes_the_offer_and_nothing_is_tried_twice_for_the_same(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, here, clock = [], set(), ManualClock()
    monkeypatch.setattr("worker.scheduling.offer.survey", lambda *asked: tried.append(1) or survey(*asked))
    watch = CapabilityWatch(lambda: library, AGENT, lambda file: file.name in here, clock=clock)
    settings = config()
    first = await settled(watch, settings, SD1)
    assert watch.capabilities(settings, (SD1,)) is first
    assert len(tried) == 1
    here.add(QR_SD1)
    clock.advance(LOOK_EVERY_S + 1.0)
    assert (await settled(watch, settings, SD1)).level > first.level
    changed = watch.capabilities(config(allow_lora=False), (SD1,))
    assert changed is not None
    assert changed.switches < {*SWITCHES}


async def test_files_are_looked_at_beside_the_event_loop(library: Library) -> None:
    """One that was never looked at is read whole."""
    looked: set[int] = set()
    watch = CapabilityWatch(lambda: library, AGENT, lambda _: not looked.add(threading.get_ident()))
    await settled(watch, config(), SD1)
    assert looked
    assert threading.get_ident() not in looked


async def test_the_event_loop_goes_on_while_it_is_tried_what_works_and_what_was_found_before_holds(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*asked: Any) -> Survey:
        # On the event loop this would wait in vain: nobody could set it.
        assert go_on.wait(PATIENCE_S)
        return survey(*asked)

    monkeypatch.setattr("worker.scheduling.offer.survey", slow)
    watch, settings = CapabilityWatch(lambda: library, AGENT, lambda _: True), config()
    assert watch.capabilities(settings, (SD1,)) is None
    go_on.set()
    first = await settled(watch, settings, SD1)
    assert first.models == ("SD1",)
    go_on.clear()
    assert watch.capabilities(settings, (SD1, SDXL)) is first
    go_on.set()
    assert (await settled(watch, settings, SD1, SDXL)).models == ("SD1", "SDXL")


def test_what_a_lower_level_costs_is_told(offered: Callable[..., Capabilities], said: list[str]):
    _tell(offered(SD1, without=[QR_SD1]))
    assert any("no jobs with QR codes" in line and "90 % of the kudos" in line for line in said)
