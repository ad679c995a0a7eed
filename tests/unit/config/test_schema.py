from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from worker.config.key_types import key_doc
from worker.config.schema import FIELDS, GROUPS, BridgeData, nearest

#: (key, lowest, highest) as reGen has them, wider where it was too narrow; None: no bound
RANGES = [
    ("max_threads", 1, 16),
    ("queue_size", 0, 4),
    ("max_batch", 1, 20),
    ("max_power", 1, 512),
    ("max_lora_cache_size", 10, 2048),
    ("stats_output_frequency", 0, None),
    ("preload_timeout", 15, None),
    ("download_timeout", 1, None),
    ("post_process_timeout", 15, None),
    ("inference_step_timeout", 15, 3600),
    ("process_timeout", 1, None),
    ("minutes_allowed_without_jobs", 0, 3599),
    ("model_stickiness", 0, 1),
    ("number_of_dynamic_models", 0, 1000),
    ("max_models_to_download", 0, 1000),
    ("max_context_length", 1, 16384),
    ("max_length", 1, 16384),
]

#: defaults of reGen for keys that are absent; models_to_load is mended (an empty list would serve nothing)
DEFAULTS = {
    "dreamer_name": "An Awesome Dreamer", "max_threads": 1, "queue_size": 1, "max_batch": 1, "max_power": 8,
    "safety_on_gpu": False, "require_upfront_kudos": False, "remove_maintenance_on_init": False,
    "limited_console_messages": False, "high_memory_mode": False, "very_high_memory_mode": False, "dynamic_vram": True,
    "high_performance_mode": False, "moderate_performance_mode": False, "post_process_job_overlap": False,
    "unload_models_from_vram_often": True, "very_fast_disk_mode": False, "blacklist": (), "nsfw": True,
    "allow_img2img": True, "allow_painting": False, "allow_unsafe_ip": True, "allow_post_processing": False,
    "allow_controlnet": False, "allow_sdxl_controlnet": False, "allow_lora": False, "civitai_api_token": None,
    "purge_loras_on_download": False, "max_lora_cache_size": 10, "extra_slow_worker": False,
    "limit_max_steps": False, "stats_output_frequency": 30, "cache_home": "./", "models_to_load": ("top 2",),
    "models_to_skip": ("SDXL_beta::stability.ai#6901",), "load_large_models": False,
    "suppress_speed_warnings": False, "exit_on_unhandled_faults": False, "custom_models": (),
    "preload_timeout": 80, "download_timeout": 121, "post_process_timeout": 60, "inference_step_timeout": 15,
    "process_timeout": 300, "minutes_allowed_without_jobs": 30, "model_stickiness": 0.0,
    "cycle_process_on_model_change": False, "capture_kudos_training_data": False, "kudos_training_data_file": None,
    "priority_usernames": (), "censor_nsfw": False, "censorlist": (), "dynamic_models": False,
    "number_of_dynamic_models": 1, "max_models_to_download": 10, "always_download": True,
    "disable_terminal_ui": True, "vram_to_leave_free": "80%", "ram_to_leave_free": "80%",
    "disable_disk_cache": False, "extra_stable_diffusion_models_folders": (),
    "forms": ("caption", "nsfw", "interrogation", "post-process"), "kai_url": "http://localhost:5000",
    "max_context_length": 1024, "max_length": 80, "branded_model": True,
}  # fmt: skip

ALIASES = {
    "dreamer_worker_name": "dreamer_name",
    "allow_inpainting": "allow_painting",
    "CIVIT_API_TOKEN": "civitai_api_token",
    "models_folder_parent": "cache_home",
    "image_models_to_load": "models_to_load",
    "image_models_to_skip": "models_to_skip",
    "horde_model_stickiness": "model_stickiness",
}


def refused(**values):
    with pytest.raises(ValidationError) as caught:
        BridgeData.model_validate(values)
    return str(caught.value)


@pytest.mark.parametrize(("key", "low", "high"), RANGES)
def test_a_range_holds_at_both_ends_and_not_beyond(key, low, high):
    assert getattr(BridgeData.model_validate({key: str(low)}), key) == low
    refused(**{key: str(low - 1)})
    if high is not None:
        assert getattr(BridgeData.model_validate({key: high}), key) == high
        refused(**{key: high + 1})


@pytest.mark.parametrize(("key", "value"), DEFAULTS.items())
def test_an_absent_key_has_the_default_of_old(key, value):
    assert getattr(BridgeData(), key) == value


@pytest.mark.parametrize(("alias", "key"), ALIASES.items())
def test_an_alias_means_its_key(alias, key):
    assert FIELDS[alias] == key


def test_there_are_no_other_aliases():
    assert {alias for alias, key in FIELDS.items() if alias != key} == set(ALIASES)


def test_defaults_pass_their_own_checks():
    defaults = {name: field.default for name, field in BridgeData.model_fields.items() if field.default is not None}
    assert BridgeData.model_validate(defaults) == BridgeData()


def test_the_groups_hold_every_key_once():
    names = [name for group in GROUPS for name in group.model_fields]
    assert sorted(names) == sorted(BridgeData.model_fields)


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "yes", "on", "1"])
def test_a_switch_is_on_however_one_writes_it(text):
    assert BridgeData.model_validate({"allow_lora": text}).allow_lora is True


@pytest.mark.parametrize("text", ["false", "False", "no", "off", "0"])
def test_a_switch_is_off_however_one_writes_it(text):
    assert BridgeData.model_validate({"nsfw": text}).nsfw is False


@pytest.mark.parametrize("text", ["8", " 8 ", "8.0", 8, 8.0])
def test_a_whole_number_may_be_written_as_text(text):
    assert BridgeData.model_validate({"max_power": text}).max_power == 8


@pytest.mark.parametrize("text", ["8.5", "eight", "true", "nan", "9" * 5000])
def test_what_is_no_whole_number_is_refused(text):
    refused(max_power=text)


def test_an_api_key_has_22_characters_or_is_the_anonymous_one():
    assert BridgeData.model_validate({"api_key": " 0000000000 "}).api_key.get_secret_value() == "0000000000"
    assert BridgeData.model_validate({"api_key": "x" * 22}).api_key.get_secret_value() == "x" * 22
    for wrong in ("x" * 21, "x" * 23, "ä" * 22, "x" * 10 + " " + "x" * 11):
        assert wrong not in refused(api_key=wrong)


def test_secrets_show_nowhere():
    data = BridgeData.model_validate({"api_key": "k" * 22, "civitai_api_token": "t0ken"})
    assert data.civitai_api_token == SecretStr("t0ken")
    for text in (repr(data), str(data), data.model_dump_json()):
        assert "k" * 22 not in text
        assert "t0ken" not in text


@pytest.mark.parametrize("address", ["aihorde.net/api", "ftp://aihorde.net", "http://", "https:///x", "http://[::1"])
def test_an_address_needs_scheme_and_host(address):
    refused(horde_url=address)


@pytest.mark.parametrize(
    ("written", "devices"),
    [
        ("auto", "auto"),
        ("AUTO", "auto"),
        ("cpu", ("cpu",)),
        ("0", (0,)),
        (1, (1,)),
        ("[0, 1]", (0, 1)),
        (["0", "CPU"], (0, "cpu")),
    ],
)
def test_devices_are_auto_or_numbers_or_the_cpu(written, devices):
    assert BridgeData.model_validate({"devices": written}).devices == devices


@pytest.mark.parametrize("written", [[], "[]", ["0", "0"], "-1", "cuda", ["auto"], {"0": "1"}, "٣"])
def test_other_devices_are_refused(written):
    refused(devices=written)


def test_the_model_no_worker_can_load_is_always_skipped():
    data = BridgeData.model_validate({"models_to_skip": ["pix2pix"]})
    assert data.models_to_skip == ("pix2pix", "SDXL_beta::stability.ai#6901")


def test_a_text_with_a_control_character_is_refused_with_the_usual_cause():
    assert "backslash" in refused(cache_home="C:\temp")
    assert "backslash" in refused(comfyui_path="C:\new")


def test_a_path_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/owner")
    assert BridgeData.model_validate({"comfyui_path": "~/comfy"}).comfyui_path == Path("/home/owner/comfy")


def test_names_and_agents_are_bounded_as_the_horde_bounds_them():
    refused(dreamer_name="x" * 101)
    refused(bridge_agent="x" * 1001)
    assert BridgeData.model_validate({"bridge_agent": "a:1:b"}).bridge_agent == "a:1:b"


def test_the_settings_are_frozen_and_know_no_other_keys():
    with pytest.raises(ValidationError):
        BridgeData().max_power = 9
    refused(max_powers=9)


@pytest.mark.parametrize(("power", "side_px"), [(8, 512), (18, 768), (32, 1024), (50, 1280), (128, 2048)])
def test_max_power_counts_in_steps_of_the_hordes(power, side_px):
    assert BridgeData(max_power=power).max_pixels == side_px**2


def test_derived_values_have_their_units():
    data = BridgeData(max_batch=4, post_process_timeout=60, max_lora_cache_size=10)
    assert data.post_process_limit_s == 72
    assert data.lora_cache_bytes == 10 * 2**30
    assert BridgeData(stats_output_frequency=20).status_period_s == 20
    assert BridgeData(stats_output_frequency=0).status_period_s is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [("max_thread", "max_threads"), ("Max_Power", "max_power"), ("model_to_load", "models_to_load"), ("xyzzy", None)],
)
def test_a_near_miss_is_recognised(written, meant):
    assert nearest(written) == meant


def test_inert_keys_are_those_of_the_last_group_only():
    for group in GROUPS:
        effects = {key_doc(field).effect.value for field in group.model_fields.values()}
        assert ("no effect" in effects) == (group.TITLE == "Accepted without effect")


def test_single_devices_may_be_set_otherwise_by_text_as_well():
    written = '[{"device": "1", "max_threads": 2, "memory_mode": "high"}, {"device": "CPU", "models": ["a"]}]'
    first, second = BridgeData.model_validate({"device_settings": written}).device_settings
    assert (first.device, first.max_threads, first.memory_mode, first.max_power, first.models) == (
        1,
        2,
        "high",
        None,
        (),
    )
    assert (second.device, second.models) == ("cpu", ("a",))


@pytest.mark.parametrize("entry", [{}, {"device": "gpu"}, {"device": 0, "max_power": 0}, {"device": 0, "nsfw": True}])
def test_a_device_is_set_by_number_within_the_usual_ranges(entry):
    refused(device_settings=[entry])
