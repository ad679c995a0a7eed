import pytest

from worker.config.rules import RULES, settle
from worker.config.schema import BridgeData


def settled(**values):
    return settle(BridgeData.model_validate(values))


def test_defaults_settle_without_a_word():
    assert settle(BridgeData()) == (BridgeData(), ())


@pytest.mark.parametrize(
    ("written", "counts", "warned"),
    [
        ({"allow_img2img": False, "allow_controlnet": True}, {"allow_controlnet": False}, ["allow_controlnet"]),
        ({"allow_img2img": False, "allow_painting": True}, {"allow_painting": False}, ["allow_painting"]),
        ({"allow_sdxl_controlnet": True}, {"allow_sdxl_controlnet": False}, ["allow_sdxl_controlnet"]),
        (
            {"allow_img2img": False, "allow_controlnet": True, "allow_sdxl_controlnet": True},
            {"allow_controlnet": False, "allow_sdxl_controlnet": False},
            ["allow_controlnet", "allow_sdxl_controlnet"],
        ),
        ({"max_threads": 2, "queue_size": 4}, {"queue_size": 3}, ["queue_size"]),
        ({"max_threads": 1, "queue_size": 4}, {"queue_size": 4}, []),
        ({"high_performance_mode": True}, {"process_timeout": 100}, []),
        ({"moderate_performance_mode": True}, {"process_timeout": 150}, []),
        (
            {"high_performance_mode": True, "moderate_performance_mode": True},
            {"process_timeout": 100, "moderate_performance_mode": False},
            ["moderate_performance_mode"],
        ),
        ({"high_performance_mode": True, "process_timeout": 500}, {"process_timeout": 500}, []),
        ({"extra_slow_worker": True}, {"queue_size": 0, "max_threads": 1, "preload_timeout": 120}, []),
        ({"extra_slow_worker": True, "preload_timeout": 200}, {"preload_timeout": 200}, []),
        (
            {"extra_slow_worker": True, "high_performance_mode": True, "max_threads": 2, "preload_timeout": 90},
            {"high_performance_mode": False, "max_threads": 1, "preload_timeout": 120, "process_timeout": 300},
            ["high_performance_mode", "max_threads", "preload_timeout"],
        ),
        (
            {"extra_slow_worker": True, "very_high_memory_mode": True, "moderate_performance_mode": True},
            {"very_high_memory_mode": False, "high_memory_mode": False, "moderate_performance_mode": False},
            ["moderate_performance_mode", "very_high_memory_mode"],
        ),
        ({"models_to_load": []}, {"models_to_load": ("top 2",)}, ["models_to_load"]),
        (
            {"models_to_load": [], "custom_models": [{"name": "a", "baseline": "b", "filepath": "c"}]},
            {"models_to_load": ()},
            [],
        ),
    ],
)
def test_what_gives_way_and_what_is_told(written, counts, warned):
    data, warnings = settled(**written)
    assert {key: getattr(data, key) for key in counts} == counts
    assert [warning.split(" ")[0] for warning in warnings] == warned


@pytest.mark.parametrize(
    ("written", "counts", "told"),
    [
        ("https://stablehorde.net", "https://aihorde.net/api/", True),
        ("https://www.stablehorde.net/api", "https://aihorde.net/api/", True),
        ("http://aihorde.net/api/v2", "https://aihorde.net/api/", True),
        ("https://aihorde.net/api", "https://aihorde.net/api", False),
        ("https://dev.aihorde.net/api/", "https://dev.aihorde.net/api/", False),
        ("http://mine:7001/api/v2/", "http://mine:7001/api", True),
        ("http://mine:7001/v2", "http://mine:7001", True),
        ("http://mine/api/", "http://mine/api/", False),
    ],
)
def test_an_address_of_the_public_horde_and_one_with_the_version_lead_to_the_api(written, counts, told):
    data, warnings = settled(horde_url=written)
    assert data.horde_url == counts
    assert bool(warnings) is told


def test_the_memory_modes_imply_each_other_and_warn_of_what_spoils_them():
    data, warnings = settled(very_high_memory_mode=True, cycle_process_on_model_change=True, queue_size=0)
    assert data.high_memory_mode
    assert not data.cycle_process_on_model_change
    assert [sentence.split(" ")[0] for sentence in warnings] == [
        "cycle_process_on_model_change",
        "high_memory_mode",
        "high_memory_mode",
    ]
    assert settled(high_memory_mode=True, unload_models_from_vram_often=False)[1] == ()


def test_a_user_the_horde_would_choke_on_is_left_out():
    data, warnings = settled(priority_usernames=["db0#1", "bob", "bob#x"])
    assert data.priority_usernames == ("db0#1",)
    assert len(warnings) == 2


def test_the_blacklist_keeps_within_the_hordes_bounds():
    data, warnings = settled(blacklist=["x" * 16, *(f"word{number}" for number in range(200))])
    assert data.blacklist[0] == "x" * 15
    assert len(data.blacklist) == 200
    assert len(warnings) == 2


def test_a_custom_model_that_lacks_something_is_left_out_and_the_others_stay():
    whole = {"name": "mine", "baseline": "stable_cascade", "files": {"stage_b": "b", "stage_c": "c"}}
    data, warnings = settled(
        custom_models=[{"name": "half", "baseline": "stable_diffusion_1"}, whole, {"filepath": "x"}]
    )
    assert [model.name for model in data.custom_models] == ["mine"]
    assert warnings == (
        "custom_models: entry 1 (half) is left out; it has no filepath.",
        "custom_models: entry 3 (without a name) is left out; it has no name and baseline.",
    )


def test_settling_twice_changes_nothing_more():
    written = {"extra_slow_worker": True, "very_high_memory_mode": True, "allow_img2img": False, "max_threads": 3}
    once, _ = settled(**written)
    assert settle(once)[0] == once


def test_every_rule_names_a_key():
    assert {rule.key for rule in RULES} <= set(BridgeData.model_fields)


def test_a_choice_by_demand_without_a_place_is_doubtful():
    data, (warning,) = settle(BridgeData(dynamic_models=True, number_of_dynamic_models=0))
    assert "dynamic_models has no effect" in warning
    assert data.dynamic_models
    assert settle(BridgeData(dynamic_models=True))[1] == ()
