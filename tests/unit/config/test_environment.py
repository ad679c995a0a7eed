import pytest

from worker.config.environment import always, from_environment, with_dotenv, with_secret_files
from worker.config.setting import Setting
from worker.errors import ConfigError


def values(settings):
    return {field: setting.value for field, setting in settings.items()}


def test_dotenv_fills_gaps_and_overwrites_nothing(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfA=1\r\nexport B='two words'\r\nC=3\r\nEMPTY\r\n")
    assert with_dotenv(tmp_path, {"C": "kept"}) == {"A": "1", "B": "two words", "C": "kept"}


def test_without_dotenv_the_environment_is_as_it_is(tmp_path):
    assert with_dotenv(tmp_path, {"A": "1"}) == {"A": "1"}


def test_a_dotenv_that_is_no_text_is_a_clear_error(tmp_path):
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"\.env"):
        with_dotenv(tmp_path, {})


def test_secrets_come_from_the_files_that_variables_name(tmp_path):
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf0123456789abcdefghijkl\r\n")
    (tmp_path / "linked").symlink_to(tmp_path / "key")
    found = with_secret_files(
        {"AIWORKER_API_KEY_FILE": str(tmp_path / "linked"), "AIWORKER_CIVIT_API_TOKEN_FILE": f'"{tmp_path / "key"}"'}
    )
    assert found == {
        "AIWORKER_API_KEY": "0123456789abcdefghijkl",
        "AIWORKER_CIVIT_API_TOKEN": "0123456789abcdefghijkl",
    }


def test_only_secrets_come_from_files(tmp_path):
    environment = {"AIWORKER_MAX_POWER_FILE": str(tmp_path), "KEY_FILE": "/etc/passwd", "AIWORKER_API_KEY_FILE": " "}
    assert with_secret_files(environment) == {"AIWORKER_MAX_POWER_FILE": str(tmp_path), "KEY_FILE": "/etc/passwd"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "which is no file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"x" * 5000, "more than 4096 bytes"),
        (b"\xff\xfe\xfa", "cannot be read"),
    ],
)
def test_a_file_without_a_secret_is_named_and_its_content_is_not(tmp_path, content, says):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as error:
        with_secret_files({"AIWORKER_API_KEY_FILE": str(file)})
    assert "xxx" not in str(error.value)


def test_a_secret_given_twice_is_told(tmp_path):
    with pytest.raises(ConfigError, match="both set"):
        with_secret_files({"AIWORKER_API_KEY_FILE": str(tmp_path), "AIWORKER_API_KEY": "a"})


def test_keys_and_aliases_are_found_whatever_their_case():
    settings, warnings = from_environment(
        {
            "AIWORKER_MAX_POWER": "32",
            "aiworker_IMAGE_MODELS_TO_LOAD": "TOP 3",
            "AIWORKER_CIVIT_API_TOKEN": "t",
            "AIWORKER_NSFW": " ",
            "PATH": "/bin",
        }
    )
    assert values(settings) == {"max_power": "32", "models_to_load": "TOP 3", "civitai_api_token": "t"}
    assert warnings == ()


def test_unknown_variables_are_told_with_the_nearest_and_never_with_their_value():
    _, warnings = from_environment({"AIWORKER_MAXPOWER": "s3cret", "AIWORKER_XYZZY": "s3cret"})
    assert len(warnings) == 2
    assert "did you mean AIWORKER_MAX_POWER?" in warnings[0]
    assert "s3cret" not in "".join(warnings)


def test_variables_of_scripts_and_compose_files_are_nothing_unknown():
    names = ("AIWORKER_BRIDGE_DATA_LOCATION", "AIWORKER_LOGS_DIR", "AIWORKER_LORA_CACHE_SIZE")
    assert from_environment(dict.fromkeys(names, "x")) == ({}, ())


def test_a_key_and_its_alias_together_are_told():
    settings, warnings = from_environment({"AIWORKER_DREAMER_NAME": "a", "AIWORKER_DREAMER_WORKER_NAME": "b"})
    assert values(settings) == {"dreamer_name": "b"}
    assert "AIWORKER_DREAMER_NAME" in warnings[0]


@pytest.mark.parametrize(
    ("environment", "written", "counts"),
    [
        ({"AIWORKER_CACHE_HOME": "/m"}, {"cache_home": "./"}, {"cache_home": "/m"}),
        ({"AIWORKER_DREAMER_WORKER_NAME": "n"}, {}, {"dreamer_name": "n"}),
        ({"AIWORKER_LORA_CACHE_SIZE": "20"}, {}, {"max_lora_cache_size": "20"}),
        ({"AIWORKER_LIMITED_CONSOLE_MESSAGES": "1"}, {}, {"limited_console_messages": "true"}),
        ({"AIWORKER_LIMITED_CONSOLE_MESSAGES": "0"}, {}, {}),
        ({"AI_HORDE_MODEL_META_LARGE_MODELS": "1"}, {"load_large_models": "false"}, {"load_large_models": "true"}),
        ({"AI_HORDE_MODEL_META_LARGE_MODELS": "False"}, {}, {}),
        ({"CIVIT_API_TOKEN": "t"}, {}, {"civitai_api_token": "t"}),
        ({"CIVIT_API_TOKEN": "t"}, {"civitai_api_token": None}, {"civitai_api_token": "t"}),
        ({"CIVIT_API_TOKEN": "t"}, {"civitai_api_token": "own"}, {}),
        ({"HORDE_MODEL_REFERENCE_GITHUB_BRANCH": "qwen"}, {}, {"model_reference_branch": "qwen"}),
        ({"HORDE_MODEL_REFERENCE_GITHUB_BRANCH": "qwen"}, {"model_reference_branch": "own"}, {}),
        ({"AI_HORDE_URL": "http://h/"}, {}, {"horde_url": "http://h/"}),
        ({"AI_HORDE_URL": "http://h/"}, {"horde_url": "https://aihorde.net/api/"}, {"horde_url": "http://h/"}),
        ({"AI_HORDE_URL": "http://h/"}, {"horde_url": "https://www.stablehorde.net/api"}, {"horde_url": "http://h/"}),
        ({"AI_HORDE_URL": "http://h/"}, {"horde_url": "http://mine/api/"}, {}),
        ({"AI_HORDE_URL": "http://h/"}, {"horde_url": "http://notaihorde.net/"}, {}),
        ({"AI_HORDE_URL": "http://h/"}, {"horde_url": "http://[::1"}, {}),
        (
            {"AI_HORDE_URL": "http://h/", "AI_HORDE_DEV_URL": "http://d/"},
            {"horde_url": "http://mine/"},
            {"horde_url": "http://d/"},
        ),
        ({"AIWORKER_CACHE_HOME": " ", "AIWORKER_MAX_POWER": "9"}, {}, {}),
    ],
)
def test_some_variables_count_without_being_asked(environment, written, counts):
    settings = {name: Setting(name, value, "b.yaml:1") for name, value in written.items()}
    assert values(always(environment, settings)) == counts
