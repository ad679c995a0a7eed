"""What `run` makes of its options."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker import logs
from worker.commands import run as command
from worker.commands.program import app_of


async def accept(_: Any) -> None:
    """The Horde has nothing against key and name."""


@pytest.mark.parametrize(("options", "elsewhere"), [((), False), (("--no-logging",), True)])
def test_without_logging_nothing_is_written_into_the_logs_folder(
    options: tuple[str, ...], elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: dict[str, Any] = {}
    opened: list[Path | None] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIWORKER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(logs, "set_up", lambda folder, **_: opened.append(folder))
    monkeypatch.setattr(command, "compose", lambda *_, **given: composed.update(given))
    monkeypatch.setattr(command, "run_worker", lambda _: None)
    monkeypatch.setattr(command, "_refuse_account", accept)
    monkeypatch.setattr(command, "check_machine", lambda *_: ())
    (tmp_path / "bridgeData.yaml").write_text(
        f"dreamer_name: worker {tmp_path.name}\napi_key: {'k' * 22}\n", encoding="utf-8"
    )

    result = CliRunner().invoke(app_of(), ["run", *options], catch_exceptions=False)

    assert result.exit_code == 0
    assert opened[-1] == (None if elsewhere else Path("logs"))
    assert composed["logs"] == (composed["home"] if elsewhere else tmp_path / "logs")


def test_a_worker_that_ended_for_another_version_starts_again_by_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(command.os, "execvpe", lambda *given: started.append(given))
    monkeypatch.setattr(command.sys, "argv", ["horde-bridge", "run", "-n", "Fox"])
    monkeypatch.setenv(command.SWITCHED, "1")

    command.start_again()

    launcher = command.ROOT / "horde-bridge.sh"
    ((program, arguments, environment),) = started
    assert (program, arguments) == ("bash", ["bash", str(launcher), "run", "-n", "Fox"])
    assert command.SWITCHED not in environment
