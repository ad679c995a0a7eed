"""The status block says in a few lines what the worker has done, does, and why it does nothing."""

from dataclasses import replace

import pytest

from tests.unit.console.views import job_view, snapshot
from worker.console.status import pause_text, status_lines
from worker.status.snapshot import AdviceView, DownloadView, ModelView, PauseView, SlotView, Standing
from worker.units import GIB


def test_the_first_line_says_what_the_session_has_earned():
    assert status_lines(snapshot())[0] == (
        "my worker: 60 min, 12 jobs done, 1 faulted; 20 images delivered, 2 faulted; 300 kudos, 300 an hour"
    )
    early = replace(snapshot().session, kudos_per_hour=None)
    assert "an hour" not in status_lines(snapshot(session=early))[0]


def test_each_engine_has_a_line():
    job = job_view(slot=1, begun_at=1001.0, step=12, of_steps=30, height=512)
    slots = (
        SlotView(1, "GPU 0", "working", memory_bytes=3 * GIB, job=job),
        SlotView(2, "GPU 1", "resting", failures=3),
    )
    assert status_lines(snapshot(slots=slots))[1:3] == [
        "Engine 1 (GPU 0): working, job 9755d4c1 of Deliberate, 512x512, 40%, 3.0 GiB",
        "Engine 2 (GPU 1): resting, failed 3 times",
    ]


@pytest.mark.parametrize(
    ("more", "last"),
    [
        (
            {"pauses": (PauseView("faults", "3 jobs in a row were faulted."),), "in_vain_s": 600.0},
            "No new jobs: 3 jobs in a row were faulted.",
        ),
        ({"in_vain_s": 600.0}, "No job in 10 min of asking."),
        ({"in_vain_s": 600.0, "passed_over": "3 want LoRAs."}, "No job in 10 min of asking. 3 want LoRAs."),
        (
            {"jobs": (job_view(), job_view(), job_view(stage="delivering"))},
            "Jobs: 2 waiting, 1 being checked and submitted",
        ),
        ({"models": (ModelView("a", "served"), ModelView("b", "waiting"))}, "1 of 2 models are served."),
        (
            {
                "models": (ModelView("b", "waiting"),),
                "downloads": (DownloadView("b.safetensors", GIB, 4 * GIB, 5.0, 600.0),),
            },
            "0 of 1 models are served; b.safetensors 25% of 4.0 GiB, 10 min left.",
        ),
        ({"standing": Standing(account="me#1", account_kudos=12.4)}, "Account me#1: 12 kudos"),
    ],
)
def test_the_last_line_says_why_nothing_comes_if_so(more, last):
    assert status_lines(snapshot(**more))[-1] == last


def test_a_pause_says_why_until_when_and_what_helps_but_no_seconds():
    pause = PauseView("owner", "Paused by its owner.", until=5600.0, remedy="`horde-bridge resume` ends it.")
    assert pause_text(pause, now=5000.0) == "Paused by its owner. For 10 min more. `horde-bridge resume` ends it."
    assert pause_text(pause, now=5599.0) == "Paused by its owner. `horde-bridge resume` ends it."
    trying = replace(pause, tries_again=True, remedy="")
    assert pause_text(trying, now=5000.0) == "Paused by its owner."


def test_the_best_advice_is_named_as_an_estimate():
    loras = AdviceView(
        "lora", "allow_lora", "true", "37 jobs an hour want LoRAs.", "allow_lora: true", 37.2, kudos_per_hour=410.0
    )
    model = AdviceView("model X", "models_to_load", "X", "9 ask for X.", "Add X.", 9.0, disk_bytes=2 * GIB)
    third = replace(loras, topic="nsfw")
    assert status_lines(snapshot(advice=(loras, model, third)))[-2:] == [
        "37 jobs an hour want LoRAs. allow_lora: true (up to 37 jobs, 410 kudos an hour more, by estimate)",
        "9 ask for X. Add X. (up to 9 jobs an hour more, by estimate; 2.0 GiB of disk)",
    ]
