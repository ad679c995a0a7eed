import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config.export import config_show, config_to_env, ignored_keys
from worker.config.load import load_config
from worker.config.schema import BridgeData

TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=20)
WRITTEN = st.fixed_dictionaries(
    {},
    optional={
        "dreamer_name": TEXT.filter(lambda text: not set(text) & set("./\\<>")),
        "api_key": st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True),
        "civitai_api_token": st.just("t0ken"),
        "models_to_load": st.lists(TEXT),
        "blacklist": st.lists(TEXT.map(lambda text: text[:15])),
        "max_power": st.integers(1, 512),
        "model_stickiness": st.floats(0, 1),
        "high_performance_mode": st.booleans(),
        "extra_slow_worker": st.booleans(),
        "process_timeout": st.integers(1, 1000),
        "unload_models_from_vram_often": st.booleans(),
        "devices": st.sampled_from(["auto", ["cpu"], [0, 1]]),
        "device_settings": st.lists(
            st.fixed_dictionaries(
                {"device": st.sampled_from([0, 1, "cpu"])},
                optional={"max_threads": st.integers(1, 16), "models": st.lists(TEXT), "memory_mode": st.just("high")},
            )
        ),
        "comfyui_path": st.just("/opt/comfy ui"),
        "custom_models": st.lists(st.fixed_dictionaries({"name": TEXT, "baseline": TEXT, "filepath": TEXT})),
    },
)


def from_env_text(text):
    environment = dict(line.split("=", 1) for line in text.splitlines())
    return load_config(None, environment=environment, from_env=True).data


@settings(deadline=None)  # the machine may be busy
@given(WRITTEN)
def test_an_env_file_gives_the_same_settings_back(written):
    data = load_config(None, environment={}, from_env=True, overrides=written).data
    again = from_env_text(config_to_env(data))
    assert again == data
    assert again.api_key == data.api_key


def test_an_env_file_holds_what_differs_and_nothing_else():
    data = BridgeData.model_validate({"nsfw": "false", "models_to_load": ["TOP 3", "it's, fine"], "api_key": "k" * 22})
    assert config_to_env(data).splitlines() == [
        "AIWORKER_API_KEY=" + "k" * 22,
        'AIWORKER_MODELS_TO_LOAD=["TOP 3", "it\'s, fine"]',
        "AIWORKER_NSFW=false",
    ]
    assert config_to_env(BridgeData()) == ""


@pytest.mark.parametrize("name", ['"x"', "worker # 1", "worker #1", "'", "it's"])
def test_a_name_with_quotes_or_a_hash_comes_back_as_it_is(name):
    data = load_config(None, environment={}, from_env=True, overrides={"dreamer_name": name}).data
    assert data.dreamer_name == name
    assert from_env_text(config_to_env(data)).dreamer_name == name


def test_what_is_shown_is_complete_and_masks_secrets():
    data = BridgeData.model_validate({"api_key": "k" * 22, "civitai_api_token": "t0ken", "max_power": 32})
    text = config_show(data)
    shown = yaml.safe_load(text)
    assert shown["max_power"] == 32
    assert shown["models_to_load"] == ["top 2"]
    assert "kkk" not in text
    assert "t0ken" not in text
    assert "kai_url" not in shown


def test_each_ignored_key_is_named_with_a_whole_sentence_that_says_why():
    data = BridgeData.model_validate({"censorlist": ["word"], "max_power": 32, "temp_dir": "./tmp"})
    assert ignored_keys(data) == ("censorlist has no effect. Use blacklist to refuse jobs by words.",)
