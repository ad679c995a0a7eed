"""What an installed wheel does where a repository has its launcher."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker.commands import options
from worker.errors import RuntimeMissing


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that an incomplete installed wheel runs; each of them fails."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(options, "ROOT", tmp_path)
    monkeypatch.setattr(options, "check", lambda: ["engine: not there yet"])
    monkeypatch.setattr(options.subprocess, "run", run)
    return commands


def test_an_installed_wheel_sets_up_its_engine_itself(ran: list[list[str]]) -> None:
    with pytest.raises(RuntimeMissing, match="could not be set up"):
        options.set_up_installed()
    assert ran == [[sys.executable, "-m", "worker.engine.install"]]


def test_in_a_repository_the_launcher_sets_up_the_engine(ran: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    options.set_up_installed()
    assert ran == []
