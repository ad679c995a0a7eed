"""The commands that reach a running worker find the one that is meant, and take spans as people write them."""

import pytest
import typer

from worker.commands import steer
from worker.commands.steer import find_worker, span_s
from worker.dashboard.whereabouts import Whereabouts
from worker.errors import WorkerError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("45", 45), ("1h30m", 5400), ("1 h 30 min", 5400),
        ("2 hours", 7200), ("30 Minutes", 1800), ("1.5h", 5400), ("1,5h", 5400), (" 10 m ", 600), ("1 day", 86_400),
    ],
)  # fmt: skip
def test_a_span_is_taken_as_people_write_it(text, seconds):
    assert span_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "0", "0m", "-5m", "10 parsecs", "m", "1h m", "1" * 20, "10m;", "∞", "1e9"]
)
def test_what_is_no_span_is_refused(text):
    with pytest.raises(typer.BadParameter, match="90s, 10m, 2h or 1d"):
        span_s(text)


def worker(name, **more):
    return Whereabouts(name, 1, 0.0, "http://127.0.0.1:1", "t", **more)


def test_the_worker_that_is_meant_is_found_and_otherwise_those_are_named_that_run(monkeypatch):
    running = []
    monkeypatch.setattr(steer, "running_workers", lambda _: running)
    with pytest.raises(WorkerError, match="No worker of this installation runs"):
        find_worker(None)
    running.append(worker("a"))
    assert find_worker(None).name == "a"
    running.append(worker("b"))
    assert find_worker("b").name == "b"
    with pytest.raises(WorkerError, match=r"2 workers run here: 'a', 'b'. Name one of them with -n NAME."):
        find_worker(None)
    with pytest.raises(WorkerError, match=r"No worker named 'c' runs here. These do: 'a', 'b'."):
        find_worker("c")


def test_the_link_is_shown_where_there_is_a_page_and_otherwise_the_key_that_turns_it_on(monkeypatch, capsys):
    running = [worker("a")]
    monkeypatch.setattr(steer, "running_workers", lambda _: running)
    steer.status(link=True)
    assert capsys.readouterr().out.strip() == "http://127.0.0.1:1/sign-in?token=t"
    running[:] = [worker("a", page=False)]
    with pytest.raises(WorkerError, match=r"dashboard of 'a' is turned off.*Set `dashboard: true`"):
        steer.status(link=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "sent", "said"),
    [
        ({}, {}, "until `horde-bridge resume`"),
        ({"for_": "10m"}, {"for_s": 600.0}, "for 10 min"),
        ({"span": "10m"}, {"for_s": 600.0}, "for 10 min"),
        ({"span": "10"}, {"for_s": 10.0}, "for 10 s"),
    ],
)
def test_a_pause_says_how_long_it_was_understood(monkeypatch, capsys, given, sent, said):
    asked = []
    monkeypatch.setattr(steer, "running_workers", lambda _: [worker("a")])
    monkeypatch.setattr(steer, "ask", lambda _, method, path, body: asked.append((method, path, body)))
    steer.pause(**given)
    assert asked == [("POST", "/api/pause", sent)]
    assert capsys.readouterr().out == f"a is paused {said}; jobs under way are finished.\n"


def test_a_span_that_is_given_twice_is_refused():
    with pytest.raises(typer.BadParameter, match="twice"):
        steer.pause("10m", for_="20m")
