"""What lies in monitoring/ speaks of metrics that there are, and fires when it should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.debian import program
from tests.unit.status.rig import Rig
from tools.metrics_page import metrics_table
from worker.dashboard.metrics import METRICS, PAUSES, PREFIX, exposition
from worker.scheduling.wait_log import ORDINARY, WaitKind

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "monitoring"
NAMES = {spec.full_name for spec in METRICS}


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [program("promtool", package="prometheus"), *arguments]
    return subprocess.run(command, cwd=FOLDER, input=text, capture_output=True, text=True, check=False)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for panel in json.loads((FOLDER / "grafana.json").read_text("utf-8"))["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_the_alerts_are_sound_and_each_fires_when_it_should():
    checked = promtool("check", "rules", "alerts.yml")
    assert checked.returncode == 0, checked.stderr
    played = promtool("test", "rules", "alerts_test.yml")
    assert played.returncode == 0, played.stdout + played.stderr


def test_every_alert_is_played_once():
    played = yaml.safe_load((FOLDER / "alerts_test.yml").read_text("utf-8"))["tests"]
    fired = {case["alertname"] for test in played for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}


def test_alerts_and_panels_name_metrics_and_labels_that_there_are():
    labels = {label for spec in METRICS for label in spec.labels} | {"worker", "instance", "job"}
    for expression in expressions():
        assert set(re.findall(rf"{PREFIX}\w+", expression)) <= NAMES, expression
        assert set(re.findall(r"(\w+)\s*=~?\s*\"", expression)) <= labels, expression


@pytest.mark.parametrize("part", ["prometheus.yml", "alerts.yml", "alerts_test.yml", "grafana.json"])
def test_the_page_on_monitoring_names_every_file(part):
    assert part in (ROOT / "docs" / "monitoring.md").read_text("utf-8")


def test_the_table_of_metrics_in_the_documentation_is_the_codes():
    assert metrics_table() in (ROOT / "docs" / "monitoring.md").read_text("utf-8"), "python -m tools.metrics_page"


async def test_prometheus_itself_finds_nothing_wrong_with_the_names():
    checked = promtool("check", "metrics", text=exposition(Rig().serve().board.snapshot).decode())
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_reason_for_a_pause_has_a_label():
    assert set(PAUSES) == {kind.value for kind in WaitKind if kind not in ORDINARY}
