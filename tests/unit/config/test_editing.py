import pytest
from pydantic import SecretStr

from worker.config.editing import EDITABLE_KEYS, Editor, SettingsConflict, locked
from worker.config.key_types import bare_type
from worker.config.load import load_config
from worker.config.schema import BridgeData
from worker.errors import ConfigError

TEXT = "# mine\ndreamer_name: me  # the name\nmax_power: 8\nallow_lora: false\n"


class Owner:
    """A folder with settings, and the check that a start would make."""

    def __init__(self, folder):
        self.path = folder / "bridgeData.yaml"
        self.path.write_text(TEXT, encoding="utf-8")
        self.environment = {}
        self.options = {}
        self.before_check = lambda: None

    def check(self, text):
        self.before_check()
        return load_config(self.path, environment=self.environment, text=text, **self.options)

    @property
    def editor(self):
        return Editor(self.check)

    @property
    def text(self):
        return self.path.read_text(encoding="utf-8")


@pytest.fixture
def owner(tmp_path):
    return Owner(tmp_path)


def test_a_change_reaches_the_file_and_the_file_before_stays_beside_it(owner):
    done = owner.editor.change({"max_power": 32, "allow_lora": True})
    assert owner.text == TEXT.replace("8", "32").replace("false", "true")
    assert done.kept.read_text(encoding="utf-8") == TEXT
    assert [str(change) for change in done.changed] == ["allow_lora false → true", "max_power 8 → 32"][::-1]


def test_a_value_that_a_start_would_refuse_changes_nothing(owner):
    with pytest.raises(ConfigError, match="max_power: '600' is not allowed"):
        owner.editor.change({"max_power": 600})
    assert owner.text == TEXT
    assert [path.name for path in owner.path.parent.iterdir()] == ["bridgeData.yaml"]


def test_a_file_that_was_changed_since_it_was_looked_at_is_left_alone(owner):
    _, seen = owner.editor.look()
    owner.path.write_text(TEXT + "nsfw: false\n", encoding="utf-8")
    with pytest.raises(SettingsConflict, match="has been changed meanwhile"):
        owner.editor.change({"max_power": 32}, fingerprint=seen)
    assert owner.text == TEXT + "nsfw: false\n"


def test_an_editor_that_saves_during_the_check_wins(owner):
    counted = []

    def save():
        counted.append(1)
        if len(counted) == 2:
            owner.path.write_text("max_power: 1\n", encoding="utf-8")

    owner.before_check = save
    with pytest.raises(SettingsConflict):
        owner.editor.change({"max_power": 32})
    assert owner.text == "max_power: 1\n"


def test_a_key_that_the_environment_sets_is_refused_with_the_name_of_the_variable(owner):
    owner.environment = {"AIWORKER_LORA_CACHE_SIZE": "20"}
    assert locked(owner.check(None), "max_lora_cache_size") == "environment: AIWORKER_LORA_CACHE_SIZE"
    with pytest.raises(ConfigError, match="is set by the environment: AIWORKER_LORA_CACHE_SIZE"):
        owner.editor.change({"max_lora_cache_size": 30})
    assert owner.text == TEXT


def test_settings_from_the_environment_alone_can_not_be_changed(owner):
    owner.environment = {"AIWORKER_MAX_POWER": "8"}
    owner.options = {"from_env": True}
    with pytest.raises(ConfigError, match="come from the environment"):
        owner.editor.change({"max_power": 32})
    with pytest.raises(ConfigError, match="come from the environment"):
        owner.editor.look()


@pytest.mark.parametrize("key", ["api_key", "comfyui_python", "horde_url", "dashboard_token", "no_such_key"])
def test_a_key_that_is_not_for_others_is_refused(owner, key):
    with pytest.raises(ConfigError, match=key):
        owner.editor.change({key: "x"})
    assert owner.text == TEXT


def test_no_editable_key_holds_a_secret_a_path_an_address_or_a_key_of_the_dashboard():
    assert set(BridgeData.model_fields) >= EDITABLE_KEYS
    for key in EDITABLE_KEYS:
        assert bare_type(BridgeData.model_fields[key]) is not SecretStr
        assert not key.endswith(("_path", "_python", "_dir", "_url", "_address", "_token", "_key", "_home", "_folders"))
        assert not key.startswith(("dashboard", "custom_models", "approved", "model_reference", "bridge_agent"))


def test_a_file_that_can_not_be_written_is_said_to_be_so(owner, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.config.editing.change_settings", full)
    with pytest.raises(ConfigError, match=r"No space left on device\. Nothing was changed"):
        owner.editor.change({"max_power": 16})


def test_what_changes_nothing_writes_nothing(owner):
    done = owner.editor.change({"max_power": 8})
    assert (done.kept, tuple(done.changed)) == (None, ())
    assert [path.name for path in owner.path.parent.iterdir()] == ["bridgeData.yaml"]
