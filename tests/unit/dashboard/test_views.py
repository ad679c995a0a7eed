import shutil
from dataclasses import replace

import pytest

from tests.unit.dashboard.visitors import Page
from tests.unit.status.rig import NOON, PAUSED, Rig
from worker.dashboard import site, views
from worker.dashboard.site import Site
from worker.status.snapshot import (
    AdviceView,
    DownloadView,
    MessageView,
    PauseView,
    Phase,
    PredictionView,
    Snapshot,
    Standing,
    WarningView,
)

ADVICE = AdviceView(
    topic="lora", key="allow_lora", value="true", sentence="37 jobs an hour asked for LoRAs.",
    remedy="Set `allow_lora: true`.", jobs_per_hour=3.5, kudos_per_hour=41.0,
    disk_bytes=10 * 1024**3, basis="An estimate from 60 min.",
)  # fmt: skip


@pytest.fixture
async def snapshot() -> Snapshot:
    return Rig().serve().board.snapshot()


async def test_the_headline_says_whether_it_works(snapshot):
    assert views.headline(snapshot).text == "Ready"
    assert views.headline(replace(snapshot, phase=Phase.STARTING)).mood == "waiting"
    assert views.headline(replace(snapshot, phase=Phase.FINISHING)).text == "Finishing"
    paused = replace(snapshot, phase=Phase.PAUSED, pauses=(PauseView("owner", "by you", NOON),))
    assert views.headline(paused).detail.startswith("Until ")
    stuck = replace(snapshot, pauses=(PauseView("faults", "3 jobs in a row were faulted.", remedy="See the log."),))
    assert views.headline(stuck).detail == "3 jobs in a row were faulted."
    assert views.headline(replace(snapshot, in_vain_s=600.0)).text == "No job for 10 min"


async def test_what_needs_a_look_is_said_once(snapshot):
    warning = WarningView("faults", "3 jobs in a row were faulted.", "See.", 0.0)
    pause = PauseView("faults", "3 jobs in a row were faulted.")
    found = views.attention(
        replace(snapshot, pauses=(pause,), warnings=(warning,), standing=Standing(reachable=False, paused=True))
    )
    assert [kind for kind, _, _ in found] == ["pause", "horde", "horde"]


async def test_advice_is_an_estimate_and_leads_to_its_setting(snapshot):
    shown = views.why_not_more(replace(snapshot, advice=(ADVICE,)))
    html = Site(Rig().board).part("why", it=shown, views=views)
    assert "At most 3.5 more jobs an hour, 41 kudos, 10.0 GiB of disk." in html
    assert 'href="/settings#allow_lora"' in html
    assert "<code>allow_lora: true</code>" in html
    other = views.why_not_more(replace(snapshot, advice=(replace(ADVICE, key="bridge_agent"),)))
    assert "/settings#" not in Site(Rig().board).part("why", it=other, views=views)


async def test_every_part_of_the_overview_is_there_when_there_is_something_to_say(snapshot, tmp_path):
    page = Page(tmp_path)
    full = replace(
        snapshot,
        advice=(ADVICE,),
        predictions=(PredictionView("lora", "4 jobs an hour were predicted, 5 came.", NOON, 4.0, 5),),
        downloads=(DownloadView("sd.safetensors", 5, 10, 1.0, 90.0), DownloadView("unknown", 5, 0)),
        standing=Standing(account="me#1", account_kudos=1.0, evaluating_kudos=2.0, trusted=False, team="t",
                          maintenance=True, worker_kudos=3.0, messages=(MessageView("a word", NOON),)),
        passed_over="41 were passed over.",
        not_offered={"QR codes": "no file"},
        in_vain_s=600.0,
    )  # fmt: skip
    page.rig.admission.reasons = (PAUSED,)
    page.rig.board._make = lambda _: full
    page.rig.board._fresh = None
    async with page.browser() as browser:
        await browser.sign_in()
        html = (await browser.get("/")).text
    for words in ("37 jobs an hour", "5 came", "sd.safetensors", "1 min left", "a word", "not yet", "no file",
                  "41 were passed over", "Asked for 10 min"):  # fmt: skip
        assert words in html, words


async def test_a_horde_that_does_not_answer_is_said_once(snapshot):
    away = replace(snapshot, standing=Standing(reachable=False))
    assert [kind for kind, _, _ in views.attention(away)] == ["horde"]
    pause = PauseView("horde", "127.0.0.1 did not answer.", until=1_800_000_000.0, tries_again=True)
    assert [kind for kind, _, _ in views.attention(replace(away, pauses=(pause,)))] == ["pause"]


async def test_each_engine_has_its_number_also_where_two_are_on_one_device(snapshot, tmp_path):
    html = Site(Rig().board).part("slots", it=(snapshot.slots, ""), views=views)
    assert "Engine 1" in html
    assert "Other jobs" not in html


async def test_pages_stay_those_of_the_running_version_when_an_update_exchanges_the_files(tmp_path, monkeypatch):
    shutil.copytree(site.HERE, tmp_path / "dashboard")
    monkeypatch.setattr(site, "HERE", tmp_path / "dashboard")
    site.templates.cache_clear()
    site.static_files.cache_clear()
    try:
        page = Page(tmp_path)
        shutil.rmtree(tmp_path / "dashboard")
        async with page.browser() as owner:
            await owner.sign_in()
            for path in ("/", "/models", "/jobs", "/log", "/static/page.css", "/nothing"):
                assert (await owner.get(path)).status_code == (404 if path == "/nothing" else 200)
    finally:
        site.templates.cache_clear()
        site.static_files.cache_clear()
