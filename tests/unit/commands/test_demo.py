"""What `demo` answers when it can't begin."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker import logs
from worker.commands import demo as command
from worker.commands.program import app_of
from worker.demo import run
from worker.engine.install import Runtime
from worker.errors import EngineStartFailed, RuntimeMissing, WorkerError


def failing(error: WorkerError) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("missing", "error"),
    [(True, RuntimeMissing("The runtime is incomplete.")), (False, EngineStartFailed("The engine ended."))],
)
def test_a_demo_that_fails_before_its_first_job_answers_in_json_too(
    missing: bool, error: WorkerError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logs, "set_up", lambda *_, **__: None)
    monkeypatch.setattr(
        command, "complete_runtime", failing(error) if missing else lambda: Runtime.locate(tmp_path, {})
    )
    monkeypatch.setattr(run, "run_demo", failing(error))

    result = CliRunner().invoke(app_of(), ["demo", "--json"])

    assert result.exception is error
    assert json.loads(result.stdout) == {"ok": False, "jobs": []}
    assert CliRunner().invoke(app_of(), ["demo"]).stdout == ""
