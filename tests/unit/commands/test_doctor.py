"""What `doctor` says of folder and service."""

import pytest

from worker.commands import doctor
from worker.commands.preflight import Rating
from worker.commands.service import launcher_of
from worker.engine.install.layout import ROOT
from worker.service.manager import State

HERE = f'ExecStart="{launcher_of(ROOT)}" "run"'


@pytest.mark.parametrize(
    ("state", "rating", "says"),
    [
        (State("hb"), None, ""),
        (State("hb", installed=True, enabled=True, active=True, text=HERE), Rating.GOOD, "at login, and runs"),
        (State("hb", installed=True, enabled=True, at_boot=True, text=HERE), Rating.GOOD, "with the machine"),
        (State("hb", installed=True, text=HERE), Rating.DOUBTFUL, "switched off"),
        (State("hb", installed=True, enabled=True, text="/elsewhere/x.sh"), Rating.DOUBTFUL, "another folder"),
    ],
)
def test_the_service_of_this_folder_is_looked_at(monkeypatch, state, rating, says):
    monkeypatch.setattr(doctor, "state_of", lambda: state)
    found = list(doctor._service())
    assert [finding.rating for finding in found] == ([] if rating is None else [rating])
    assert all(says in finding.text for finding in found)
    assert all(finding.remedy for finding in found if finding.rating is not Rating.GOOD)


def test_a_folder_it_had_better_not_lie_in_is_named_before_there_are_settings(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "concerns_here", lambda _: ["It goes."])
    found = list(doctor.examine(tmp_path / "none.yaml", from_environment=False, offline=True))
    assert [finding.text for finding in found if finding.subject == "folder"] == ["It goes."]
