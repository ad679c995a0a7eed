"""At its end a session is told in a few lines: jobs, kudos, models, and whose failures there were."""

from dataclasses import replace

from tests.unit.console.views import snapshot
from worker.console.status import summary_lines
from worker.status.snapshot import Session, Tally


def test_the_session_is_told_by_model_and_by_whose_failures_there_were():
    session = replace(
        snapshot().session,
        models={"a": Tally(jobs=2, kudos=20.0, render_s=5.0), "b": Tally(jobs=10, kudos=280.0, render_s=40.0)},
        faults={"engine": 1, "requester": 3},
        idle_s=600.0,
    )
    assert summary_lines(snapshot(session=session)) == [
        "my worker, 60 min: 12 jobs done, 20 images delivered, 300 kudos, 300 an hour",
        "  b: 10 jobs, 280 kudos, 4.0 s a job",
        "  a: 2 jobs, 20 kudos, 2.5 s a job",
        "Not done: 1, by cause: 3 requester, 1 engine",
        "Idle, asking in vain: 10 min",
    ]


def test_of_many_models_the_best_are_named():
    models = {f"model {number}": Tally(jobs=1, kudos=float(number)) for number in range(15)}
    lines = summary_lines(snapshot(session=replace(snapshot().session, models=models)))
    assert lines[1].startswith("  model 14:")
    assert lines[-1] == "  and 5 more models"


def test_a_start_that_came_to_nothing_has_no_summary():
    assert summary_lines(snapshot(session=Session(uptime_s=5.0))) == []
    assert len(summary_lines(snapshot(session=Session(uptime_s=500.0)))) == 1
