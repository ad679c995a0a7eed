"""`setup` as a newcomer meets it: on a terminal of 80 columns, against the embedded Horde."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

if sys.platform == "win32":
    pytest.skip("pseudo terminals are POSIX's", allow_module_level=True)

from tests.e2e.screen import PATIENCE_S, Screen, on_terminal
from worker.config.load import TEMPLATE, load_config
from worker.demo.horde.directory import OWNER_KEY, REQUESTER_KEY
from worker.demo.horde.server import RunningHorde, serve_in_thread
from worker.demo.horde.state import EmbeddedHorde

#: An address at which nobody answers.
NOBODY = "http://127.0.0.1:9/api/"
NAME = "Fox 🦊 in snow"


@pytest.fixture(scope="module")
def horde() -> Iterator[RunningHorde]:
    with serve_in_thread(EmbeddedHorde()) as running:
        yield running


@pytest.fixture
def environment(horde: RunningHorde) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIWORKER_", "AI_HORDE"))}
    return {
        **kept,
        "AI_HORDE_URL": f"{horde.url}/api/",
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "AIWORKER_RUNTIME_DIR": ".",
    }


def take_everything(screen: Screen) -> None:
    """Enter for every question that is left, the last one included."""
    while True:
        screen.wait_for("]: ")
        screen.type("")
        if "Write this" in screen.seen.splitlines()[-1]:
            return


def test_a_newcomer_ends_with_settings_that_load(python, tmp_path, environment):
    with on_terminal(python, ["setup"], tmp_path, environment) as screen:
        screen.wait_for("API key: ")
        screen.type(f'\n  "{OWNER_KEY}"  \nand more\nof the page')
        screen.wait_for("the account owner#1")
        screen.wait_for("]: ")
        screen.type("Fox/Snow")
        screen.wait_for("slash")
        screen.wait_for("]: ")
        screen.type(NAME)
        screen.wait_for("free")
        take_everything(screen)
        assert screen.finish() == 0
        assert OWNER_KEY not in screen.seen
        assert max(map(len, screen.seen.splitlines())) <= 80
    file = tmp_path / "bridgeData.yaml"
    data = load_config(file, environment={}).data
    assert (data.dreamer_name, data.api_key.get_secret_value()) == (NAME, OWNER_KEY)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "# The name of your worker on the Horde." in file.read_text("utf-8")


def test_a_wrong_key_and_a_taken_name_are_asked_for_again(python, tmp_path, environment, horde):
    horde.state  # noqa: B018 - the Horde is up
    with on_terminal(python, ["setup"], tmp_path, environment) as screen:
        screen.answer("API key:", "x" * 22)
        screen.wait_for("no account with this API key")
        screen.answer("API key:", "0000000000")
        screen.wait_for("anonymous")
        screen.answer("API key:", REQUESTER_KEY)
        screen.wait_for("the account")
        screen.type("\x03", end="")
        assert screen.finish() == 130
    assert "Nothing was written" in screen.seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [("\x03", 130), ("\x04", 1)])
@pytest.mark.parametrize("moment", ["API key:", "name"])
def test_ctrl_c_and_the_end_of_input_leave_everything_as_it_is(python, tmp_path, environment, end, moment):
    typed, code = end
    before = "dreamer_name: Fox # mine\n"
    (tmp_path / "bridgeData.yaml").write_text(before, "utf-8")
    with on_terminal(python, ["setup", "--offline"], tmp_path, environment) as screen:
        if moment == "name":
            screen.answer("API key:", OWNER_KEY)
        screen.wait_for(moment)
        screen.type(typed, end="")
        assert screen.finish() == code
    assert (tmp_path / "bridgeData.yaml").read_text("utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["bridgeData.yaml"]


def test_an_existing_file_keeps_its_comments_and_its_earlier_self(python, tmp_path, environment):
    before = f"# mine\ndreamer_name: Old # the name\napi_key: {OWNER_KEY}\nmax_power: 17 # tried\n"
    (tmp_path / "bridgeData.yaml").write_text(before, "utf-8")
    with on_terminal(python, ["setup"], tmp_path, environment) as screen:
        screen.answer("API key")
        screen.answer("name", "New")
        take_everything(screen)
        assert screen.finish() == 0
    text = (tmp_path / "bridgeData.yaml").read_text("utf-8")
    assert text.startswith('# mine\ndreamer_name: "New" # the name\n')
    assert "max_power: 17 # tried" in text
    (kept,) = tmp_path.glob("bridgeData.yaml.before-*")
    assert kept.read_text("utf-8") == before


def setup(
    python: Path, folder: Path, environment: dict[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(python), "-m", "worker.cli", "setup", *arguments],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=PATIENCE_S,
    )  # fmt: skip


def test_a_script_is_asked_nothing(python, tmp_path, environment):
    variables = {
        "AIWORKER_API_KEY": OWNER_KEY,
        "AIWORKER_MAX_POWER": "32",
        "AIWORKER_MODELS_TO_LOAD": "TOP 3, Deliberate",
    }
    done = setup(
        python, tmp_path, environment | variables, "--yes", "--name", "Fox", "--set", "blacklist=a,b", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["account"], told["name"]) == ("owner#1", "free")
    assert OWNER_KEY not in done.stdout + done.stderr
    written = yaml.safe_load((tmp_path / "bridgeData.yaml").read_text("utf-8"))
    assert (written["max_power"], written["models_to_load"]) == (32, ["TOP 3", "Deliberate"])
    assert written["blacklist"] == ["a", "b"]


@pytest.mark.parametrize(
    "case",
    [
        ([], {}, (1, "no terminal")),
        (["--yes"], {}, (1, "AIWORKER_API_KEY")),
        (["--yes", "--name", "a/b"], {"AIWORKER_API_KEY": OWNER_KEY}, (1, "slash")),
        (["--yes", "--name", "Fox"], {"AIWORKER_API_KEY": "x" * 22}, (1, "no account")),
        (["--yes", "--name", "Fox", "--set", "max_power=lots"], {"AIWORKER_API_KEY": OWNER_KEY}, (1, "max_power")),
        (["--yes", "--name", "Fox", "--set", "maxpower"], {}, (2, "KEY=VALUE")),
        (["--yes", "--key-file", "absent"], {}, (1, "absent")),
        (["--yes", "-n", "Fox"], {"AIWORKER_API_KEY": OWNER_KEY, "AI_HORDE_URL": NOBODY}, (1, "--offline writes")),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_one_sentence_and_writes_nothing(python, tmp_path, environment, case):
    arguments, variables, (code, says) = case
    done = setup(python, tmp_path, environment | variables, *arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--set", "allow_controlnet=true", "--set", "allow_img2img=false"],
            "allow_controlnet is changed from true to false: it needs allow_img2img. Give values that go together, or",
        ),
        (
            ["--set", "extra_slow_worker=true", "--set", "max_threads=2"],
            "max_threads is changed from 2 to 1: extra_slow_worker is on. Give values that go together, or",
        ),
        (["--models", "keep", "--disk", "100"], "--disk has no effect while the models stay as they are"),
        (["--set", "allow_img2img=false"], ""),
    ],
)
def test_settings_that_switch_one_another_off_are_told(python, tmp_path, environment, arguments, told):
    (tmp_path / "bridgeData.yaml").write_text(
        "dreamer_name: Fox\nallow_img2img: true\nallow_painting: true\nallow_controlnet: true\n", "utf-8"
    )
    variables = {"AIWORKER_API_KEY": OWNER_KEY}
    done = setup(python, tmp_path, environment | variables, "--yes", "--offline", "--name", "Fox", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert [warning.startswith(told) for warning in json.loads(done.stdout)["warnings"]] == [True] * bool(told)
    assert told in done.stderr
    assert ("WARNING" in done.stderr) is bool(told)


def test_a_copy_of_the_template_is_filled_in_as_if_there_were_none(python, tmp_path, environment):
    copied = TEMPLATE.read_text("utf-8")
    (tmp_path / "bridgeData.yaml").write_text(copied, "utf-8")
    variables = {"AIWORKER_API_KEY": OWNER_KEY}
    done = setup(python, tmp_path, environment | variables, "--yes", "--name", "Fox", "--models", "sdxl", "--json")
    assert done.returncode == 0, done.stderr
    assert "models_to_load" in json.loads(done.stdout)["settings"]
    (tmp_path / "bridgeData.yaml").unlink()
    fresh = setup(python, tmp_path, environment | variables, "--yes", "--name", "Fox", "--models", "sdxl", "--json")
    assert json.loads(fresh.stdout)["settings"] == json.loads(done.stdout)["settings"]


def test_a_folder_that_is_not_there_is_named(python, tmp_path, environment):
    done = setup(python, tmp_path, environment, "--yes", "--config", "absent/bridgeData.yaml")
    assert (done.returncode, "There is no folder" in done.stderr) == (1, True)


def test_run_without_settings_offers_the_questions(python, tmp_path, environment):
    with on_terminal(python, ["run", "--cpu"], tmp_path, environment) as screen:
        screen.wait_for("Answer a few questions now? [Y/n]: ")
        screen.type("n")
        assert screen.finish() == 1
    assert "there is no such file" in screen.seen.replace("\n", " ")
