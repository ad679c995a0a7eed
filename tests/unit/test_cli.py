"""What is said where the packages of the worker are damaged."""

import sys

import pytest

from worker import cli
from worker.commands import program
from worker.engine.install import verify


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise AttributeError("module 'yaml' has no attribute 'SafeLoader'")

    monkeypatch.setattr(program, "main", fails)


def test_an_error_with_a_damaged_package_is_told_by_that_with_the_remedy(broken, monkeypatch, capsys):
    """A traceback said nothing of a remedy, and `doctor` ended in the same one."""
    damaged = [f"package-{number} lacks a file: core.so" for number in range(5)]
    monkeypatch.setattr(verify, "damaged_packages", lambda: damaged)
    monkeypatch.delenv("HORDE_BRIDGE_LAUNCHER", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert "package-2 lacks a file: core.so and 2 more" in said
    assert "run update-runtime --repair" in said
    assert "Traceback" not in said


def test_an_error_with_whole_packages_is_a_defect_and_shows_where(broken, monkeypatch):
    monkeypatch.setattr(verify, "damaged_packages", list)
    with pytest.raises(AttributeError):
        cli.main()


def test_a_package_that_cannot_be_imported_is_told_as_well(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "worker.commands.program", None)
    monkeypatch.setattr(verify, "damaged_packages", lambda: ["typer lacks a file: typer/main.py"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "typer lacks a file" in capsys.readouterr().err
