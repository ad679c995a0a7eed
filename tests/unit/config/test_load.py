import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config.load import LoadedConfig, load_config
from worker.config.schema import FIELDS, BridgeData
from worker.errors import ConfigError

KEY = "Kk0123456789012345678X"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_and_load(text, environment=(), **options) -> LoadedConfig:
        data = text if isinstance(text, bytes) else text.encode()
        Path("bridgeData.yaml").write_bytes(data)
        return load_config(None, environment=dict(environment), **options)

    return write_and_load


def problems(load, text, **options):
    with pytest.raises(ConfigError) as caught:
        load(text, **options)
    return caught.value.message.splitlines()


def test_a_file_becomes_settings_with_their_source(load):
    loaded = load(f"dreamer_name: me\napi_key: {KEY}\nmax_power: 32\nmodels_to_load:\n  - TOP 3\n  - Deliberate\n")
    assert loaded.data.dreamer_name == "me"
    assert loaded.data.api_key.get_secret_value() == KEY
    assert loaded.data.models_to_load == ("TOP 3", "Deliberate")
    assert loaded.source == "bridgeData.yaml"
    assert loaded.warnings == ()


def test_all_errors_come_at_once_each_with_its_line_and_what_is_allowed(load):
    text = (
        "max_power: 600\nnsfw: maybe\nblacklist:\n  - fine\n  - [x]\nhorde_url: a.b\ndevices: gpu\nqueue_size: {a: 1}"
    )
    no_address = "it does not start with http:// or https:// and a host name"
    no_device = "a device is neither a number nor cpu"
    numbers = "auto, or a list of different GPU numbers and cpu"
    assert problems(load, text) == [
        "bridgeData.yaml:1: max_power: '600' is not allowed; allowed: a whole number from 1 to 512.",
        "bridgeData.yaml:2: nsfw: 'maybe' is not allowed; allowed: true or false.",
        "bridgeData.yaml:5: blacklist: entry 2: a list is not allowed; allowed: a list of words.",
        f"bridgeData.yaml:6: horde_url: 'a.b' is not allowed ({no_address}); allowed: an http:// or https:// address.",
        f"bridgeData.yaml:7: devices: 'gpu' is not allowed ({no_device}); allowed: {numbers}.",
        "bridgeData.yaml:8: queue_size: a mapping is not allowed; allowed: a whole number from 0 to 4.",
    ]


def test_a_wrong_value_is_shown_in_part_and_harmlessly(load):
    (line,) = problems(load, f"max_power: {'x' * 100}\n")
    assert "x" * 60 + "…" in line
    assert "x" * 61 not in line
    (line,) = problems(load, 'max_power: "a\\eb"\n')
    assert r"'a\x1bb'" in line


@pytest.mark.parametrize(
    "text",
    [
        f"api_key: {KEY}Y",
        f"api_key: [{KEY}]",
        f"api_key: {{a: {KEY}}}",
        f"apikey: {KEY}\nnsfw: 2",
        f"api_key: *{KEY}",
        f"api_key: !{KEY}!x y",
        f"api_key: '{KEY}",
        f"api_key: {KEY}: {KEY}",
        KEY,
    ],
)
def test_a_secret_stands_in_no_error(load, text):
    assert KEY not in "\n".join(problems(load, text))


def test_a_token_that_is_none_stands_in_no_error(load):
    assert "s3cret" not in problems(load, "civitai_api_token: s3cret token")[0]


def test_secrets_stand_in_no_repr_and_no_warning(load):
    loaded = load(f"api_key: {KEY}\napi_keyy: {KEY}\ncivitai_api_token: t0ken", {"SECRET": "s3cret"})
    for secret in (KEY, "t0ken", "s3cret"):
        assert secret not in repr(loaded)
        assert secret not in str(loaded)


def test_unknown_keys_warn_with_the_nearest_name_and_their_line(load):
    assert load("max_thread: 2\nplugh: 1\n").warnings == (
        "bridgeData.yaml:1: max_thread: is not a known key and has no effect; did you mean max_threads?",
        "bridgeData.yaml:2: plugh: is not a known key and has no effect.",
    )


def test_of_repeated_keys_the_last_counts_with_a_warning(load):
    loaded = load("max_power: 8\nmax_power: 9\nallow_painting: true\nallow_inpainting: false\n")
    assert loaded.data.max_power == 9
    assert loaded.data.allow_painting is False
    second = "bridgeData.yaml:4: allow_inpainting"
    assert loaded.warnings == (
        "bridgeData.yaml:2: max_power: is already set at bridgeData.yaml:1; this value is used.",
        f"{second}: is already set as allow_painting at bridgeData.yaml:3; this value is used.",
    )


def test_keys_without_a_value_have_their_default(load):
    loaded = load("max_power:\ncivitai_api_token:\nblacklist:\nbridge_agent: ''\nmodels_to_load:\n")
    assert loaded.data == BridgeData()
    assert loaded.warnings == (
        "bridgeData.yaml:1: max_power: has no value; the default is used.",
        "bridgeData.yaml:5: models_to_load: has no value; the default is used.",
    )


def test_every_alias_works_in_the_file(load):
    values = {"models_to_load": ["a"], "models_to_skip": ["a"], "model_stickiness": "0.5", "allow_painting": "true"}
    for alias, key in FIELDS.items():
        if alias == key:
            continue
        written = values.get(key, "some-text")
        by_alias, by_key = (load(yaml.safe_dump({name: written})) for name in (alias, key))
        assert by_alias.data == by_key.data != BridgeData()


def test_settled_values_are_told(load):
    loaded = load("allow_controlnet: true\nallow_img2img: false")
    assert loaded.data.allow_controlnet is False
    assert loaded.warnings == ("allow_controlnet is changed from true to false: it needs allow_img2img.",)


def test_a_missing_file_says_what_to_copy(tmp_path):
    with pytest.raises(
        ConfigError, match=r"there is no such file.*`horde-bridge setup`.*copy .*bridgeData_template\.yaml"
    ):
        load_config(tmp_path / "none.yaml", environment={})


def test_a_folder_a_pipe_and_a_link_loop_are_named_as_that(tmp_path):
    pipe, loop = tmp_path / "pipe.yaml", tmp_path / "loop.yaml"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, what in ((tmp_path, "is a folder"), (pipe, "is a device, pipe or socket"), (loop, "cannot be read")):
        with pytest.raises(ConfigError, match=what):
            load_config(path, environment={})
    with pytest.raises(ConfigError) as caught:
        load_config(loop, environment={})
    assert "Replace the link" in caught.value.remedy
    with pytest.raises(ConfigError, match="is a device"):
        load_config(Path("/dev/zero"), environment={})
    (tmp_path / "bridgeData.yaml").mkdir()
    with pytest.raises(ConfigError, match="is a folder, not a file") as caught:
        load_config(tmp_path / "bridgeData.yaml", environment={})
    assert "Docker creates such a folder" in caught.value.remedy


def test_a_link_that_leads_nowhere_is_a_missing_file(tmp_path):
    (tmp_path / "bridgeData.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "bridgeData.yaml", environment={})


@pytest.mark.parametrize("name", ["bridgeData.yml", "bridgedata.yaml", "bridgeData.yaml.txt"])
def test_a_file_of_almost_that_name_is_named(name, tmp_path):
    (tmp_path / name).write_text("nsfw: true")
    with pytest.raises(ConfigError, match="Rename it to bridgeData") as caught:
        load_config(tmp_path / "bridgeData.yaml", environment={})
    assert name in caught.value.message


def test_the_settings_of_very_old_workers_are_named_as_that(tmp_path):
    (tmp_path / "bridgeData.py").write_text("class BridgeData:")
    for name in ("bridgeData.yaml", "bridgeData.py"):
        with pytest.raises(ConfigError, match=r"very old workers.*`horde-bridge setup`.*copy .*bridgeData_template"):
            load_config(tmp_path / name, environment={})


def test_the_template_beside_it_is_not_taken_for_a_misnamed_file(tmp_path):
    (tmp_path / "bridgeData_template.yaml").write_text("nsfw: true")
    with pytest.raises(ConfigError, match=r"`horde-bridge setup`.*copy .*bridgeData_template"):
        load_config(tmp_path / "bridgeData.yaml", environment={})


def test_with_e_and_without_any_variable_a_warning_says_so():
    assert "no AIWORKER_* variable" in load_config(None, environment={}, from_env=True).warnings[0]
    assert load_config(None, environment={"AIWORKER_NSFW": "true"}, from_env=True).warnings == ()


def test_a_variables_quotes_and_blanks_go_whatever_its_type():
    values = {"DREAMER_NAME": '"My Worker"', "NSFW": "'true' ", "MAX_POWER": '"8"\r', "API_KEY": f'"{KEY}"',
              "QUEUE_SIZE": "2      # Important", "MODELS_TO_LOAD": "'[\"a\"]'", "BLACKLIST": '"a","b"'}  # fmt: skip
    data = load_config(None, environment={f"AIWORKER_{k}": v for k, v in values.items()}, from_env=True).data
    assert (data.dreamer_name, data.nsfw, data.max_power, data.queue_size) == ("My Worker", True, 8, 2)
    assert data.api_key.get_secret_value() == KEY
    assert (data.models_to_load, data.blacklist) == (("a",), ("a", "b"))


def test_a_name_given_as_worker_name_counts_where_dreamer_name_is_missing(load):
    loaded = load("worker_name: old")
    assert loaded.data.dreamer_name == "old"
    assert "write dreamer_name instead" in loaded.warnings[0]
    assert load("worker_name: old\ndreamer_name: new").data.dreamer_name == "new"


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a//b", "..", "<b>x</b>", "My colab worker"])
def test_a_name_that_the_horde_cannot_use_is_refused(load, name):
    assert "dreamer_name" in problems(load, f"dreamer_name: {name}")[0]


def test_a_name_with_a_slash_is_doubtful(load):
    assert "slash" in load("dreamer_name: a/b").warnings[0]


def test_of_many_unknown_keys_only_some_are_named(load):
    warnings = load("".join(f"unknown{number}: x\n" for number in range(50))).warnings
    assert len(warnings) == 21
    assert warnings[-1] == "30 more keys are not known."


def test_a_huge_file_is_refused(load):
    assert "larger" in problems(load, "#" * 300_000)[0]


def test_a_file_in_another_encoding_names_the_line(load):
    assert problems(load, "a: 1\ndreamer_name: Jörg".encode("latin-1"))[0].startswith("bridgeData.yaml:2: ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_what_windows_editors_save_is_read(load, encoding):
    assert load("dreamer_name: Jörg 画\r\n".encode(encoding)).data.dreamer_name == "Jörg 画"


def test_an_empty_file_is_all_defaults_with_a_warning(load):
    loaded = load("# nothing yet\n")
    assert loaded.data == BridgeData()
    assert "sets nothing" in loaded.warnings[0]


def test_names_that_look_like_numbers_or_switches_stay_as_written(load):
    data = load("dreamer_name: 007\nblacklist: [no, 1e3, 0x10]").data
    assert data.dreamer_name == "007"
    assert data.blacklist == ("no", "1e3", "0x10")


def test_a_list_may_be_one_text(load):
    assert load("models_to_load: TOP 3").data.models_to_load == ("TOP 3",)


def test_the_environment_goes_before_the_file_and_the_command_line_before_both(load):
    environment = {"AIWORKER_DREAMER_WORKER_NAME": "env", "AIWORKER_CACHE_HOME": "/env", "AIWORKER_MAX_POWER": "99"}
    loaded = load("dreamer_name: file\ncache_home: ./m\n", environment, overrides={"dreamer_name": "line"})
    assert (loaded.data.dreamer_name, loaded.data.cache_home) == ("line", "/env")
    assert loaded.data.max_power == 8


def test_dotenv_beside_the_file_counts_and_reaches_the_children(tmp_path):
    (tmp_path / ".env").write_text("AIWORKER_CACHE_HOME=/from/dotenv\nCIVIT_API_TOKEN=t0ken\n")
    (tmp_path / "my.yaml").write_text("nsfw: true\n")
    loaded = load_config(tmp_path / "my.yaml", environment={"CUDA_VISIBLE_DEVICES": "1"})
    assert loaded.data.cache_home == "/from/dotenv"
    assert loaded.data.civitai_api_token.get_secret_value() == "t0ken"
    assert loaded.environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert loaded.environment["AIWORKER_CACHE_HOME"] == "/from/dotenv"


def test_with_e_everything_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {
        "AIWORKER_API_KEY": KEY,
        "AIWORKER_MODELS_TO_LOAD": "['TOP 3', 'AlbedoBase XL (SDXL)']",
        "AIWORKER_MODELS_TO_SKIP": "[]",
        "AIWORKER_SAFETY_ON_GPU": "True",
        "AIWORKER_BLACKLIST": "one",
        "AIWORKER_CUSTOM_MODELS": '[{"name": "a", "baseline": "b", "filepath": "/c"}]',
    }
    loaded = load_config(None, environment=environment, from_env=True, overrides={"dreamer_name": "n"})
    assert loaded.source == "environment"
    assert loaded.warnings == ()
    assert loaded.data.models_to_load == ("TOP 3", "AlbedoBase XL (SDXL)")
    assert loaded.data.models_to_skip == ("SDXL_beta::stability.ai#6901",)
    assert loaded.data.safety_on_gpu is True
    assert loaded.data.blacklist == ("one",)
    assert loaded.data.custom_models[0].filepath == "/c"
    assert loaded.data.dreamer_name == "n"


def test_errors_of_the_environment_name_the_variable():
    with pytest.raises(ConfigError, match=r"environment: AIWORKER_MAX_POWER: max_power: '0' is not allowed"):
        load_config(None, environment={"AIWORKER_MAX_POWER": "0"}, from_env=True)
    with pytest.raises(ConfigError, match="it is not JSON"):
        load_config(None, environment={"AIWORKER_CUSTOM_MODELS": "[a"}, from_env=True)


def test_the_command_line_is_checked_like_the_rest(load):
    assert problems(load, "nsfw: true", overrides={"dreamer_name": "x" * 101})[0].startswith(
        "command line: dreamer_name: "
    )
    assert "not a known key" in problems(load, "nsfw: true", overrides={"name": "x"})[0]
    assert load("dreamer_name: file", overrides={"dreamer_name": None}).data.dreamer_name == "file"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def outcome(path, **options):
    """The text of the ConfigError, or None for settings; anything else that is raised fails the test."""
    try:
        data = load_config(path, **options).data
    except ConfigError as error:
        return error.message
    return None if isinstance(data, BridgeData) else "no settings"


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(), ANYTHING, max_size=8))
def test_any_mapping_is_settings_or_a_clear_error(tmp_path_factory, mapping):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump(mapping), encoding="utf-8")
    assert (outcome(file, environment={}) or str(file)).startswith(str(file))


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), ANYTHING, max_size=8))
def test_any_override_is_settings_or_a_clear_error(overrides):
    error = outcome(None, environment={}, from_env=True, overrides=overrides)
    assert error is None or error.startswith("command line: ")


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(), max_size=8))
def test_any_environment_is_settings_or_a_clear_error(values):
    environment = {f"AIWORKER_{key.upper()}": value for key, value in values.items()}
    error = outcome(None, environment=environment, from_env=True)
    assert error is None or error.startswith("environment: ")


def test_a_file_of_zero_bytes_is_named_as_that(tmp_path):
    file = tmp_path / "bridgeData.yaml"
    file.write_bytes(bytes(4096))
    with pytest.raises(ConfigError, match="nothing but zero bytes") as raised:
        load_config(file, environment={})
    assert "before-" in raised.value.remedy


def test_variables_that_count_only_without_the_file_are_named(tmp_path):
    file = tmp_path / "bridgeData.yaml"
    file.write_text("dreamer_name: x1\n", encoding="utf-8")
    environment = {
        "AIWORKER_MAX_POWER": "32",
        "AIWORKER_API_KEY": "s" * 22,
        "AIWORKER_CACHE_HOME": "m",
        "AIWORKER_X": "1",
    }
    [warning] = [each for each in load_config(file, environment=environment).warnings if "without -e" in each]
    assert warning.startswith("environment: AIWORKER_API_KEY, AIWORKER_MAX_POWER: no effect")
    assert "ssss" not in warning
    assert not any("-e" in each for each in load_config(file, environment={"AIWORKER_CACHE_HOME": "m"}).warnings)
    assert not any("without -e" in each for each in load_config(None, environment=environment, from_env=True).warnings)
