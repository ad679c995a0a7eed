"""`models …` where no list of the Horde's can be had."""

import json
from pathlib import Path

import pytest
import yaml
from loguru import logger
from typer.testing import CliRunner

from worker import logs
from worker.commands.models import app
from worker.errors import HostUnreachable

#: Nobody answers there.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`resolve(*names)`: what `models resolve --json` ends with, for an owner with one model of his own."""
    settings = {
        "dreamer_name": "mine",
        "api_key": "k" * 22,
        "cache_home": "models",
        "model_reference": NOWHERE,
        "models_to_load": ["Mine"],
        "custom_models": [{"name": "Mine", "baseline": "stable_diffusion_1", "filepath": "mine.safetensors"}],
    }
    (tmp_path / "bridgeData.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "set_up", lambda *_, **__: None)
    return lambda *names: CliRunner().invoke(app, ["resolve", "--json", *names])


@pytest.mark.parametrize("names", [[], ["Mine"]])
def test_models_of_the_owners_own_need_no_list(resolve, names):
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING")
    done = resolve(*names)
    logger.remove(sink)
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["load"] == ["Mine"]
    assert ["Models of your own need no list" in each for each in said] == [True]


@pytest.mark.parametrize("names", [["Deliberate"], ["Mine", "TOP 2"]])
def test_others_are_not_passed_by_in_silence(resolve, names):
    assert isinstance(resolve(*names).exception, HostUnreachable)
