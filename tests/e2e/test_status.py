"""A running worker is looked at and steered from outside: by commands, probes, and a real Prometheus."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.debian import program

pytestmark = pytest.mark.e2e
MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
PATIENCE_S = 120.0


def address(owner) -> dict[str, Any]:
    """What the worker wrote of itself; empty while it has not."""
    for file in owner.folder.glob("state/*/dashboard.json"):
        return json.loads(file.read_text("utf-8"))
    return {}


def get(owner, path: str, *, token: bool = True) -> httpx.Response:
    here = address(owner)
    headers = {"Authorization": f"Bearer {here['token']}"} if token else {}
    return httpx.get(here["url"] + path, headers=headers, trust_env=False, timeout=30)


def test_the_running_worker_is_looked_at_paused_resumed_and_finished_by_commands(owner):
    none = owner.command("status")
    assert (none.returncode, none.stdout) == (1, "")
    assert "No worker of this installation runs." in none.stderr

    requests = owner.ask(2)
    owner.start()
    owner.done(requests)
    assert owner.command("pause", "--for", "10m").returncode == 0
    shown = owner.command("status")
    assert shown.stdout.startswith("e2e worker: ")
    assert "Paused by its owner. For 10 min more. `horde-bridge resume` ends it." in shown.stdout
    waiting = owner.ask()
    status = json.loads(owner.command("status", "--json").stdout)
    assert (status["phase"], status["session"]["total"]["jobs"], status["ended"][0]["outcome"]) == ("paused", 2, "done")
    assert owner.horde.state.check(waiting[0])["waiting"] == 1

    assert owner.command("resume").returncode == 0
    owner.done(waiting)
    assert "No worker named 'other' runs here." in owner.command("status", "-n", "other").stderr
    assert owner.command("pause", "--for", "soon").returncode == 2
    assert owner.command("finish").returncode == 0
    assert owner.end() == 0, owner.output
    assert "3 jobs done" in owner.output
    assert not address(owner)
    assert owner.command("finish").returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="there is no kill -9 on Windows")
def test_what_a_killed_worker_left_is_no_running_one_and_its_pause_and_history_come_back(owner):
    requests = owner.ask()
    owner.start()
    owner.done(requests)
    owner.command("pause")
    owner.until(lambda: any(owner.folder.glob("state/*/history.sqlite3")))
    # What was written a moment ago is on its way to the disk.
    owner.until(lambda: saved(owner))
    owner.signal(signal.SIGKILL)
    owner.end()
    assert address(owner)
    assert "No worker of this installation runs." in owner.command("status").stderr

    owner.start()
    owner.until(lambda: address(owner).get("pid") == owner.process.pid)
    status = json.loads(owner.command("status", "--json").stdout)
    assert status["session"]["total"]["jobs"] == 0
    assert len(get(owner, "/api/history").json()["jobs"]) == 1
    owner.until(lambda: json.loads(owner.command("status", "--json").stdout)["phase"] == "paused")
    assert owner.command("resume").returncode == 0
    owner.signal()
    assert owner.end() == 0, owner.output


def saved(owner) -> bool:
    """Whether job and pause are in the file."""
    (file,) = owner.folder.glob("state/*/history.sqlite3")
    base = sqlite3.connect(file)
    try:
        return bool(base.execute("SELECT 1 FROM jobs").fetchone() and base.execute("SELECT 1 FROM pause").fetchone())
    except sqlite3.OperationalError:
        return False
    finally:
        base.close()


@pytest.fixture
def prometheus(owner, tmp_path) -> Iterator[Callable[[str], list[Any]]]:
    """Asks a Prometheus that reads this owner's worker once a second."""
    owner.start()
    owner.until(lambda: address(owner))
    token = tmp_path / "token"
    token.write_text(address(owner)["token"])
    content = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    content["global"]["scrape_interval"] = "1s"
    content["rule_files"] = [str(MONITORING / "alerts.yml")]
    (job,) = content["scrape_configs"]
    job["authorization"]["credentials_file"] = str(token)
    job["static_configs"][0]["targets"] = [address(owner)["url"].removeprefix("http://")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(content))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus", package="prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:

        def ask(query: str) -> list[Any]:
            try:
                answer = http.get("/api/v1/query", params={"query": query}).json()
            except (httpx.HTTPError, ValueError):
                return []
            assert answer["status"] == "success", answer
            return list(answer["data"]["result"])

        try:
            yield ask
        finally:
            process.kill()
            process.wait()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_real_prometheus_scrapes_what_the_horde_has_in_its_books(owner, prometheus):
    owner.done(owner.ask(2))
    until(lambda: [row["value"][1] for row in prometheus("horde_bridge_images_total")] == ["2"])
    (kudos,) = prometheus("horde_bridge_kudos_total")
    assert kudos["metric"]["worker"] == "e2e worker"
    session = get(owner, "/api/status").json()["session"]
    assert float(kudos["value"][1]) == pytest.approx(session["total"]["kudos"], abs=0.01)
    assert session["total"]["images"] == len(owner.horde.state.accounting().outcomes)
    (up,) = prometheus('up{job="horde-bridge"}')
    assert up["value"][1] == "1"
    for panel in json.loads((MONITORING / "grafana.json").read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            prometheus(target["expr"].replace("$worker", ".*"))
    assert prometheus('horde_bridge_slot_state{state="ready"} == 1')


def test_probes_follow_the_life_of_the_worker(owner):
    owner.start()
    owner.until(lambda: address(owner))
    assert get(owner, "/healthz", token=False).status_code == 200
    owner.until(lambda: get(owner, "/readyz", token=False).status_code == 200)
    assert get(owner, "/startupz", token=False).status_code == 200
    assert get(owner, "/metrics", token=False).status_code == 401
    owner.signal()
    assert owner.end() == 0, owner.output


def test_the_kudos_that_are_shown_are_those_that_the_horde_books(owner):
    """Its answer to a submit names the whole reward, of which it books a part below its latest feature level."""
    requests = owner.ask(8, width=512, height=512, steps=30)
    owner.start()
    owner.done(requests)
    assert owner.command("pause").returncode == 0
    status = json.loads(owner.command("status", "--json").stdout)
    booked = owner.horde.state.accounting().kudos
    total = status["session"]["total"]
    assert (total["jobs"], total["images"]) == (8, 8)
    assert total["kudos"] == pytest.approx(booked, abs=0.01)
    hours = get(owner, "/api/hours?count=2").json()["hours"]
    assert sum(hour["total"]["kudos"] for hour in hours) == pytest.approx(booked, abs=0.01)
    here = address(owner)
    headers = {"Authorization": f"Bearer {here['token']}", "Accept": "text/html"}
    page = httpx.get(f"{here['url']}/", headers=headers, trust_env=False, timeout=PATIENCE_S)
    assert f"<dd>{booked:.0f}</dd>" in page.text
