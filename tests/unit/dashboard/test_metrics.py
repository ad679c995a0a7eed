"""Prometheus reads what the status says: names with units, labels with bounded values."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.status.rig import Rig
from worker.dashboard.metrics import METRICS, MOST_MODELS, exposition
from worker.errors import EngineDied
from worker.status.session import OTHER_MODELS
from worker.status.snapshot import Phase


@pytest.fixture
async def rig():
    return Rig().serve()


def scraped(rig):
    rig.clock.now += 1.0
    text = exposition(rig.board.snapshot).decode()
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "worker")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_jobs_brought_is_counted_once(rig):
    rig.ends(rig.job("a", "b"), kudos=20.0)
    rig.ends(rig.job("c"), error=EngineDied("x"))
    rig.ends(rig.job("d"), dropped="The worker is shutting down.")
    found = scraped(rig)
    assert found["horde_bridge_jobs_total", "done"] == 1
    assert found["horde_bridge_jobs_total", "faulted"] == 1
    assert found["horde_bridge_jobs_total", "given_back"] == 1
    assert found["horde_bridge_images_total",] == 2
    assert found["horde_bridge_kudos_total",] == 20
    assert found["horde_bridge_faults_total", "engine"] == 1
    assert found["horde_bridge_model_kudos_total", "Deliberate"] == 20
    # Of a job that failed, until it ended.
    assert found["horde_bridge_stage_seconds_total", "render"] == 14
    assert found["horde_bridge_phase", Phase.SERVING.value] == 1
    assert found["horde_bridge_disk_free_bytes",] == 5 * 1024**3


async def test_every_sample_has_the_worker_as_a_label_even_with_an_odd_name(rig):
    rig.board.live.change(rig.config.model_copy(update={"dreamer_name": 'a"b\\c\nd'}))
    rig.clock.now += 1.0
    families = list(text_string_to_metric_families(exposition(rig.board.snapshot).decode()))
    assert len(families) == len(METRICS)
    workers = {sample.labels["worker"] for family in families for sample in family.samples}
    assert len(workers) == 1


async def test_models_beyond_a_number_are_one_line(rig):
    for number in range(MOST_MODELS + 30):
        rig.ends(rig.job(str(number), model=f"model {number}"), kudos=float(number))
    found = {key: value for key, value in scraped(rig).items() if key[0] == "horde_bridge_model_kudos_total"}
    assert len(found) == MOST_MODELS + 1
    assert sum(found.values()) == sum(range(MOST_MODELS + 30))
    assert found["horde_bridge_model_kudos_total", "other"] == sum(range(MOST_MODELS, MOST_MODELS + 30))


async def test_labels_of_skipped_requests_are_the_hordes_own_reasons(rig):
    rig.pop_backoff.skipped = {"lora": 3, "models": 7}
    assert scraped(rig)["horde_bridge_skipped_requests", "lora"] == 3


def test_names_end_with_a_unit_where_they_measure_something():
    for spec in METRICS:
        assert re.fullmatch(r"[a-z][a-z_]+", spec.name)
        assert not spec.name.endswith("_total")
        assert spec.help.endswith(".")
    measured = {spec.name for spec in METRICS if re.search(r"[Ss]econds|[Bb]ytes|[Tt]ime|[Mm]emory", spec.help)}
    assert all(name.endswith(("_seconds", "_bytes")) for name in measured if name != "pops")


async def test_the_sum_of_other_models_never_falls_whichever_becomes_the_best(rig):
    def other():
        return scraped(rig)["horde_bridge_model_kudos_total", OTHER_MODELS]

    for number in range(MOST_MODELS + 2):
        rig.ends(rig.job(str(number), model=f"Model {number:03}"), kudos=10.0)
    before = other()
    for number in range(5):
        rig.ends(rig.job(f"more {number}", model=f"Model {MOST_MODELS + 1:03}"), kudos=1000.0)
        assert other() > before
        before = other()


async def test_a_model_of_that_very_name_is_among_the_others(rig):
    for number in range(MOST_MODELS + 2):
        rig.ends(rig.job(str(number), model=f"Model {number:03}"))
    rig.ends(rig.job("o", model=OTHER_MODELS))
    text = exposition(rig.board.snapshot).decode()
    assert text.count('horde_bridge_model_jobs_total{model="other"') == 1
    assert scraped(rig)["horde_bridge_model_jobs_total", OTHER_MODELS] == 3.0
