"""The benchmark measures a card that nobody else uses."""

import pytest

from worker.benchmark.measurements import Findings
from worker.benchmark.proposals import Proposal
from worker.commands import benchmark
from worker.dashboard.whereabouts import Whereabouts
from worker.errors import WorkerError
from worker.setup.card import MachineFacts
from worker.units import GIB


def test_no_worker_of_whatever_name_may_run_beside_it(monkeypatch, tmp_path):
    """One started with -n NAME has another lock than the name in the settings."""
    running = [Whereabouts("another name", 1, 0.0, "http://127.0.0.1:1", "t")]
    monkeypatch.setattr(benchmark, "running_workers", lambda base: running if base == tmp_path else [])
    monkeypatch.setenv("AIWORKER_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "set_up_installed", lambda: None)
    with pytest.raises(WorkerError, match="'another name' runs on this machine already") as refused:
        benchmark.benchmark(cpu=True)
    assert "horde-bridge finish" in refused.value.remedy


def test_settings_of_which_nothing_was_measured_are_not_called_right(capsys):
    """Tiny models stand in where none of the owner's are here."""
    benchmark._show(Findings((), (), {}), MachineFacts(None, 24 * GIB), [Proposal("max_power", 8, 8, "")])
    assert capsys.readouterr().out.splitlines()[1:] == ["Not measured, and left as they are: max_power 8."]
