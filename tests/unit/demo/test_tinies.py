"""The builder of the tiny models as a child process."""

import os
import sys
from pathlib import Path

import pytest

from worker.demo import tinies
from worker.engine.install.layout import Runtime
from worker.errors import ConfigError, RuntimeMissing


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch):
    """Runs this text as the builder; what it told."""

    async def run(script: str) -> list[str]:
        told: list[str] = []
        monkeypatch.setattr(tinies, "build_command", lambda *_, **__: [sys.executable, "-c", script])
        await tinies.build(Runtime.locate(), (), tell=told.append)
        return told

    return run


async def test_each_line_is_told_whatever_it_is(build):
    assert await build("print('{}'); print('a library says: so')") == ["{}", "a library says: so"]


async def test_a_builder_that_fails_is_quoted(build):
    with pytest.raises(RuntimeMissing, match="no torch"):
        await build("import sys; sys.exit('no torch')")


@pytest.mark.parametrize("doing", ["", "sys.stdout.close(); os.close(1); "])
async def test_a_builder_that_hangs_is_given_up(build, doing, monkeypatch):
    monkeypatch.setattr(tinies, "BUILD_TIMEOUT_S", 0.5)
    with pytest.raises(RuntimeMissing, match="not built within"):
        await build(f"import os, sys, time; {doing}time.sleep(20)")


def test_a_demo_writes_beside_an_installation_that_is_read_only(tmp_path, monkeypatch):
    runtime = Runtime.locate()
    assert tinies.engines_folder(runtime).parent == runtime.folder
    monkeypatch.setenv("AIWORKER_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != runtime.folder)
    for folder in (tinies.engines_folder(runtime), tinies.tiny_folder(runtime)):
        assert folder.is_relative_to(tmp_path)


def test_a_folder_for_generated_models_that_names_an_unknown_home_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AIWORKER_STATE_DIR", "~nobody-of-this-name/state")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="the home folder is unknown"):
        tinies.tiny_folder(Runtime.locate(tmp_path))
