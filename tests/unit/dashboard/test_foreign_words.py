"""What others write, shown on the page: it stays text, whatever it looks like."""

import asyncio
import re
from html.parser import HTMLParser

import pytest
import yaml
from loguru import logger

from tests.unit.dashboard.visitors import TOKEN, Page
from worker.dashboard.sessions import announcing_token
from worker.errors import NodeFailed
from worker.horde.messages import PopResponse
from worker.logs import redactor
from worker.models.progress import ModelsState

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
async def page(tmp_path):
    return Page(tmp_path)


@pytest.fixture
async def owner(page):
    async with page.browser() as browser:
        await browser.sign_in()
        yield browser


async def shown_everywhere(browser) -> str:
    pages = [await browser.get(path) for path in ("/", "/jobs", "/models", "/log", "/settings", "/workers")]
    assert [answer.status_code for answer in pages] == [200] * len(pages)
    return "\n".join(answer.text for answer in pages)


class Markup(HTMLParser):
    """What a browser would make of a page: its elements and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def assert_harmless(html: str) -> None:
    for tag, attributes in Markup(html).found:
        assert tag not in {"img", "iframe", "object", "embed", "base"}
        assert tag != "script" or attributes["src"].startswith("/static/page.js")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert not (attributes.get("href") or "").lower().startswith(("javascript:", "data:"))


async def test_names_of_models_from_the_horde_are_text(page, owner):
    page.rig.models = ModelsState((EVIL,), failed={EVIL + "2": EVIL})
    page.rig.ends(page.rig.job("1", model=EVIL))
    html = await shown_everywhere(owner)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert_harmless(html)
    assert_harmless((await owner.get("/jobs/1")).text)


async def test_messages_of_the_horde_and_of_errors_are_text(page, owner):
    answer = PopResponse(
        ids=[], messages=[{"message": EVIL, "origin": EVIL, "id": "1", "expiry": "2030-01-01T00:00:00"}]
    )
    page.rig.pops(answer)
    page.rig.ends(page.rig.job("2"), error=NodeFailed(EVIL, remedy=EVIL))
    html = await shown_everywhere(owner) + (await owner.get("/jobs/2")).text
    assert "&lt;script&gt;" in html
    assert_harmless(html)


async def test_prompts_and_pictures_are_not_there_until_the_owner_wants_them(page, owner):
    job = page.rig.job("3", prompt="a secret wish")
    page.rig.ends(job)
    page.rig.events.pictures.publish(job, b"RIFF")
    assert "a secret wish" not in await shown_everywhere(owner) + (await owner.get("/jobs/3")).text
    assert (await owner.get("/jobs/3/picture")).status_code == 404


async def test_prompts_that_the_owner_wants_to_see_are_text_and_gone_when_he_does_not(page, owner):
    live = page.rig.board.live
    live.change(live.data.model_copy(update={"dashboard_shows_jobs": True}))
    job = page.rig.job("4", prompt=EVIL + "\x1b[31m")
    page.rig.ends(job)
    page.rig.events.pictures.publish(job, b"RIFF")
    html = (await owner.get("/jobs/4")).text
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html
    assert 'src="/jobs/4/picture"' in html
    assert (await owner.get("/jobs/4/picture")).headers["content-type"] == "image/webp"
    async with page.browser() as stranger:
        assert (await stranger.get("/jobs/4/picture")).status_code == 303
    live.change(live.data.model_copy(update={"dashboard_shows_jobs": False}))
    assert "&lt;script&gt;" not in (await owner.get("/jobs/4")).text
    assert (await owner.get("/jobs/4/picture")).status_code == 404


async def test_lines_of_the_log_are_text_without_secrets_and_control_characters(page, owner):
    secret = "a-key-that-nobody-may-see"
    redactor.add([secret])
    logger.configure(patcher=redactor.patch)
    try:
        with page.rig.board.log.listening():
            logger.info("{} \x1b[2J\x1b]0;title\x07 {}\nforged", EVIL, secret)
    finally:
        logger.configure(patcher=lambda _: None)
        redactor._secrets.discard(secret)
    html = (await owner.get("/log")).text
    assert "&lt;script&gt;" in html
    assert secret not in html
    assert not set(html) & {"\x1b", "\x07"}
    assert_harmless(html)


async def test_what_other_workers_say_of_themselves_is_text(page, owner):
    told = {"name": EVIL, "state": "serving", "port": 1, "scheme": "http", "open": True}
    async with page.browser(headers={"authorization": f"Bearer {announcing_token(TOKEN)}"}) as other:
        assert (await other.http.post("/api/workers", json=told)).status_code == 204
    html = (await owner.get("/workers")).text
    assert "&lt;script&gt;" in html
    assert_harmless(html)


async def test_what_a_filter_holds_is_text(owner):
    html = (await owner.get("/jobs", params={"model": EVIL, "outcome": EVIL, "blame": EVIL})).text
    assert "&lt;script&gt;" in html
    assert_harmless(html)


async def test_settings_values_are_text_and_one_value_each(page, owner):
    text = page.settings.read_text(encoding="utf-8")
    page.settings.write_text(text + f"blacklist: ['{EVIL.replace(chr(39), chr(39) * 2)}']\n", encoding="utf-8")
    html = (await owner.get("/settings")).text
    assert "&lt;script&gt;" in html
    assert_harmless(html)
    assert "</textarea><" not in html.replace("</textarea>\n", "")


@pytest.mark.parametrize(
    "value",
    [
        "x\r\napi_key: stolen",
        "x: y\n- api_key: z",
        "]\napi_key: stolen",
        "'\napi_key: stolen\n'",
        "# no",
        "*x",
        "!!python/x y",
    ],
)
async def test_a_settings_value_can_not_write_another_key(page, owner, value):
    fingerprint = re.search(r'name="fingerprint" value="(\w+)"', (await owner.get("/settings")).text)[1]
    await owner.post("/settings", {"fingerprint": fingerprint, "shown": ["blacklist"], "blacklist": value})
    written = yaml.safe_load(page.settings.read_text(encoding="utf-8"))
    assert set(written) <= {"dreamer_name", "max_power", "nsfw", "blacklist"}
    assert all(isinstance(word, str) for word in written.get("blacklist", []))


@pytest.mark.parametrize("key", ["api_key", "comfyui_python", "dashboard_token", "horde_url", "custom_models", "x"])
async def test_a_form_can_not_set_a_key_that_is_not_on_the_page(page, owner, key):
    before = page.settings.read_text(encoding="utf-8")
    fingerprint = re.search(r'name="fingerprint" value="(\w+)"', (await owner.get("/settings")).text)[1]
    answer = await owner.post("/settings", {"fingerprint": fingerprint, "shown": [key], key: "/bin/sh"})
    assert answer.status_code == 400
    assert page.settings.read_text(encoding="utf-8") == before


async def test_pages_hold_no_script_and_no_style_of_their_own_and_name_no_other_site(page, owner):
    page.rig.ends(page.rig.job("1"))
    html = await shown_everywhere(owner) + (await owner.get("/jobs/1")).text
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    assert not re.search(r"<style|\sstyle=", html)
    assert not re.search(r"(src|href|action)=[\"']?(https?:)?//", html)


async def test_of_two_forms_saved_at_once_the_second_is_told_that_the_file_has_changed(page, owner):
    fingerprint = re.search(r'name="fingerprint" value="(\w+)"', (await owner.get("/settings")).text)[1]
    answers = await asyncio.gather(
        *(
            owner.post("/settings", {"fingerprint": fingerprint, "shown": ["max_power"], "max_power": power})
            for power in ("16", "32", "64")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [303, 409, 409]
    assert len(list(page.folder.glob("bridgeData.yaml.before-*"))) == 1
