"""The reference's catalogue of baselines, and what strangers could put into it."""

import httpx
import pytest

from worker.models.catalog.baselines import fetch_and_learn, learn, learn_kept, read_baselines
from worker.models.catalog.records import family_of
from worker.scheduling.estimates.ttl import ttl_s
from worker.workflows.families import BASELINES, TRAITS
from worker.workflows.types import Family

#: As the service answers, cut to what is read.
CATALOGUE = {
    "metadata": {"version": 1},
    "baselines": {
        "flux_schnell": {
            "alternative_names": ["Flux  Schnell", "schnell_of_flux"],
            "capabilities": {"controlnet": True},
            "horde_policy": {"kudos": 8.0, "ttl": 3},
        },
        "stable_diffusion_xl": {"alternative_names": ["SDXL", "flux_1"], "horde_policy": {"ttl": 1}},
        "unheard_of": {"alternative_names": ["what"], "horde_policy": {"ttl": 9}},
    },
}


@pytest.mark.usefixtures("forgetful")
def test_families_go_by_the_names_of_the_catalogue_and_have_its_time():
    before = TRAITS[Family.FLUX_SCHNELL]
    assert family_of("Schnell of Flux") is None
    learn(read_baselines(CATALOGUE))
    assert family_of("Schnell of Flux") is Family.FLUX_SCHNELL
    assert ttl_s(1000, Family.FLUX_SCHNELL) == ttl_s(1000, Family.FLUX_1)
    # No name of a family is another one's, and nothing but the time changes.
    assert family_of("flux_1") is Family.FLUX_1
    assert TRAITS[Family.FLUX_SCHNELL].model_copy(update={"ttl": before.ttl}) == before
    assert family_of("what") is None


@pytest.mark.parametrize("data", [None, [], {}, {"baselines": []}, {"baselines": {}}, "x"])
def test_a_catalogue_that_is_none_is_told(data):
    with pytest.raises(ValueError, match="lists no baselines"):
        read_baselines(data)


@pytest.mark.usefixtures("forgetful")
def test_an_entry_that_is_none_changes_nothing():
    before = dict(TRAITS)
    learn(read_baselines({"baselines": {"flux_1": 1, "": {}, "x": None}}))
    assert before == TRAITS


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("entry", "ttl"),
    [
        ({"horde_policy": {"ttl": -5}}, 1.0), ({"horde_policy": {"ttl": 1e9}}, 100.0),
        ({"horde_policy": {"ttl": float("nan")}}, 3.0), ({"horde_policy": {"ttl": True}}, 3.0),
        ({"horde_policy": {"ttl": "9"}}, 3.0), ({"horde_policy": []}, 3.0), ({}, 3.0),
        ({"alternative_names": "flux", "horde_policy": {"ttl": 2}}, 2.0),
        ({"alternative_names": [1, None, "", "x" * 9999], "horde_policy": None}, 3.0),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out(entry, ttl):
    learn(read_baselines({"baselines": {"flux_1": entry}}))
    assert TRAITS[Family.FLUX_1].ttl == ttl


@pytest.mark.usefixtures("forgetful")
async def test_it_is_kept_for_times_without_network(tmp_path):
    answers = [httpx.Response(200, json=CATALOGUE), httpx.Response(503)]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    async with httpx.AsyncClient(transport=transport) as http:
        await fetch_and_learn(http, tmp_path, address="https://reference.invalid/baselines")
    assert family_of("schnell of flux") is Family.FLUX_SCHNELL
    BASELINES.clear()
    learn_kept(tmp_path / "elsewhere")
    assert family_of("schnell of flux") is None
    learn_kept(tmp_path)
    assert family_of("schnell of flux") is Family.FLUX_SCHNELL
