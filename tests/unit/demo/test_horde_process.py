"""`python -m worker.demo.horde`: says where it is, serves the jobs of a file, ends when told."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from worker.demo.horde.__main__ import enqueue_file, main
from worker.demo.horde.state import EmbeddedHorde

FOX = {"prompt": "fox", "models": ["Deliberate"], "params": {"width": 64, "height": 64, "n": 2}}


def jobs_file(folder: Path, content: Any) -> Path:
    path = folder / "jobs.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_process_says_where_it_is_and_serves_its_jobs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker.demo.horde", "--port", "0", "--jobs-file", str(jobs_file(tmp_path, [FOX]))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            where = json.loads(process.stdout.readline())
            body = {"name": "w", "models": ["Deliberate"], "bridge_agent": "AI Horde Worker reGen:13:u", "amount": 2}
            popped = httpx.post(
                f"{where['api_url']}/generate/pop", json=body, headers={"apikey": where["owner_key"]}
            ).json()
            assert len(popped["ids"]) == 2
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)


def test_a_broken_jobs_file_ends_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--jobs-file", str(jobs_file(tmp_path, {"not": "a list"}))]) == 1
    assert "not a JSON list" in capsys.readouterr().err


def test_every_job_of_a_file_is_asked_for(tmp_path: Path) -> None:
    state = EmbeddedHorde()
    ids = enqueue_file(state, jobs_file(tmp_path, [FOX, FOX]))
    assert [state.check(request_id)["waiting"] for request_id in ids] == [2, 2]
