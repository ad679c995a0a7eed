import time
from contextlib import closing

import pytest
import yaml
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.browser.conftest import PHONE, serve_page
from tests.e2e.conftest import Owner

pytestmark = pytest.mark.browser
PAGES = ("/", "/jobs", "/models", "/settings", "/log", "/workers")


def test_the_link_on_the_terminal_opens_the_page_and_its_token_does_not_stay_in_the_address(browser, owner):
    browser.until(lambda: browser.driver.current_url == f"{browser.base}/")
    assert "e2e worker" in browser.text("header")
    # Its output goes to a file here, which is as good as a log.
    assert f"Dashboard: {browser.base}/ (" in owner.output
    assert browser.token not in owner.output
    log = (owner.folder / "logs" / "bridge.log").read_text(encoding="utf-8")
    assert browser.token not in log
    assert "sign-in?token" not in log


def test_jobs_appear_while_one_looks(browser, owner):
    browser.until(lambda: "live" in browser.text("footer"))
    owner.ask(3)
    browser.until(lambda: "Working on" in browser.text("#state"))
    browser.until(lambda: any(float(bar.get_attribute("value") or 0) > 0 for bar in browser.all(".slot progress")))
    browser.until(lambda: len(browser.all("#recent li")) >= 3)
    browser.until(lambda: "kudos" in browser.text("#recent"))
    assert "done" in browser.text("#recent")


def test_jobs_appear_in_the_list_too(browser, owner):
    browser.open("/jobs")
    before = browser.text("#jobs > p")
    owner.ask(1)
    browser.until(lambda: browser.text("#jobs > p") != before)


def test_a_long_name_breaks_neither_the_moment_beside_it_nor_the_headings(browser, owner):
    owner.done(owner.ask(1))
    browser.open("/jobs")
    browser.until(lambda: browser.all("#jobs tbody tr"))
    lines = """
        document.querySelector('#jobs td[data-label=Model]').textContent = 'A'.repeat(300);
        return [...document.querySelectorAll('#jobs thead th, #jobs tbody th a')].map(each => {
          const range = document.createRange(); range.selectNodeContents(each);
          return new Set([...range.getClientRects()].map(rect => rect.top)).size;
        });
    """
    assert set(browser.script(lines)) == {1}


def test_pause_and_resume_reach_the_worker(browser, owner):
    browser.click("#pause")
    browser.until(lambda: "Paused by you" in browser.text("#state"))
    assert "Paused until" in browser.text(".notice")
    asked = owner.ask(1)
    time.sleep(1.0)
    assert owner.horde.state.check(asked[0])["waiting"] == 1
    assert not browser.find("#pause").is_displayed()
    browser.click("#resume")
    browser.until(lambda: "Paused" not in browser.text("#state"))
    owner.done(asked)


def test_a_pause_from_elsewhere_shows_without_a_reload(browser, owner):
    browser.until(lambda: "live" in browser.text("footer"))
    assert owner.command("pause", "--for", "10m").returncode == 0
    browser.until(lambda: "Paused by you" in browser.text("#state"))
    browser.until(lambda: browser.find("#resume").is_displayed())
    assert "Paused by you" in browser.script("return document.getElementById('said').textContent")
    assert owner.command("resume").returncode == 0
    browser.until(lambda: "Paused" not in browser.text("#state"))


def test_a_wrong_token_is_refused_and_the_right_one_by_hand_is_not(stranger):
    stranger.open("/jobs")
    stranger.until(lambda: stranger.driver.current_url.endswith("/sign-in"))
    stranger.find("#token").send_keys("wrong", Keys.ENTER)
    stranger.until(lambda: "not the token" in stranger.text(".notice"))
    stranger.open("/")
    assert "Engines" not in stranger.text()
    stranger.find("#token").send_keys(stranger.token, Keys.ENTER)
    stranger.until(lambda: "Engines" in stranger.text())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_form_on_another_page_changes_nothing(browser, owner, host):
    """Another page on this machine sends the form with all it can know, in the browser that has signed in."""
    csrf = browser.find("input[name=csrf]").get_attribute("value")
    page = f"""<form method=post action="{browser.base}/steer/pause"><input name=minutes value=60>
    <input name=csrf value="{csrf}"></form><script>document.forms[0].submit()</script>"""
    with serve_page(page) as port:
        browser.driver.get(f"http://{host}:{port}/")
        browser.until(lambda: "another origin" in browser.text() or "token is missing" in browser.text())
    browser.open("/")
    assert "Paused" not in browser.text("#state")


def test_another_page_can_neither_read_nor_frame_this_one(browser):
    page = f"""<p id=out>waiting</p><iframe src="{browser.base}/"></iframe><script>
    fetch("{browser.base}/api/status", {{credentials: "include"}}).then(a => a.text())
      .then(t => out.textContent = "read " + t.length, () => out.textContent = "refused")</script>"""
    with serve_page(page) as port:
        browser.driver.get(f"http://127.0.0.1:{port}/")
        browser.until(lambda: browser.text("#out") == "refused")
        browser.driver.switch_to.frame(0)
        assert "Engines" not in browser.driver.page_source
        browser.driver.switch_to.default_content()
    browser.complaints()


def test_a_change_of_settings_reaches_the_file_and_the_running_worker(browser, owner):
    browser.open("/settings")
    power = browser.find("#max_power")
    power.clear()
    power.send_keys("16")
    browser.click("#allow_img2img")
    words = browser.find("#blacklist")
    words.send_keys("first", Keys.ENTER, "it's: #2")
    browser.click("#save")
    browser.until(lambda: "Saved" in browser.text(".notice"))
    assert "max_power 8 → 16" in browser.text(".notice")
    written = yaml.safe_load(owner.config_file.read_text(encoding="utf-8"))
    assert (written["max_power"], written["allow_img2img"], written["blacklist"]) == (16, False, ["first", "it's: #2"])
    assert written["api_key"] == owner.config["api_key"]
    owner.until(lambda: "Settings read again" in owner.output)
    browser.open("/settings")
    assert browser.find("#max_power").get_attribute("value") == "16"
    assert not browser.find("#allow_img2img").is_selected()


def test_a_value_that_is_not_allowed_is_said_and_what_was_entered_stays(browser, owner):
    before = owner.config_file.read_bytes()
    browser.open("/settings")
    browser.script("document.querySelector('form.settings').noValidate = true")
    power = browser.find("#max_power")
    power.clear()
    power.send_keys("9999")
    browser.click("#save")
    browser.until(lambda: "not changed" in browser.text(".notice"))
    assert "a whole number from 1 to 512" in browser.text(".notice")
    assert browser.find("#max_power").get_attribute("value") == "9999"
    assert owner.config_file.read_bytes() == before


def test_a_file_changed_meanwhile_is_not_overwritten(browser, owner):
    browser.open("/settings")
    text = owner.config_file.read_text(encoding="utf-8")
    owner.config_file.write_text(f"{text}# by hand\n", encoding="utf-8")
    browser.click("#nsfw")
    browser.click("#save")
    browser.until(lambda: "changed meanwhile" in browser.text(".notice"))
    assert owner.config_file.read_text(encoding="utf-8") == f"{text}# by hand\n"
    browser.click("#save")
    browser.until(lambda: "Saved" in browser.text(".notice"))
    assert "# by hand" in owner.config_file.read_text(encoding="utf-8")


def test_no_page_complains_on_the_console_or_asks_anybody_else_for_anything(browser):
    for path in PAGES:
        browser.requested()
        browser.open(path)
        time.sleep(1.5)
        assert browser.complaints() == [], path
        asked = browser.requested()
        assert asked, path
        assert all(address.startswith(browser.base) for address in asked), (path, asked)


def test_no_page_is_wider_than_a_phone(browser):
    size = {"width": PHONE[0], "height": PHONE[1], "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for path in PAGES:
        browser.open(path)
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            assert browser.script("return document.documentElement.scrollWidth") <= PHONE[0], (path, scheme)


def test_every_page_reads_without_scripts(plain_browser):
    assert "Engines" in plain_browser.text()
    assert plain_browser.find("noscript meta[http-equiv=refresh]")
    for path in PAGES:
        plain_browser.open(path)
        assert plain_browser.find("h1").text, path


def test_the_worker_is_steered_without_scripts(plain_browser, owner):
    Select(plain_browser.find("#minutes")).select_by_value("30")
    plain_browser.click("#pause")
    plain_browser.until(lambda: "Paused until" in plain_browser.text(".notice"))
    plain_browser.click("#resume")
    plain_browser.until(lambda: "Resumed" in plain_browser.text(".notice"))


def test_the_keyboard_alone_reaches_and_does_everything(browser):
    browser.until(lambda: "live" in browser.text("footer"))

    def tab_until(wanted):
        for _ in range(60):
            ActionChains(browser.driver).send_keys(Keys.TAB).perform()
            focused = browser.driver.switch_to.active_element
            assert browser.script("return getComputedStyle(arguments[0]).outlineStyle", focused) != "none"
            if wanted(focused):
                return focused
        raise AssertionError("it is never reached")

    tab_until(lambda each: each.get_attribute("class") == "skip").send_keys(Keys.ENTER)
    tab_until(lambda each: each.get_attribute("id") == "pause").send_keys(Keys.ENTER)
    browser.until(lambda: "Paused" in browser.text("#state"))
    tab_until(lambda each: each.get_attribute("id") == "resume").send_keys(Keys.ENTER)
    browser.until(lambda: "Paused" not in browser.text("#state"))
    tab_until(lambda each: each.tag_name == "summary" and "More" in each.text).send_keys(Keys.ENTER)
    tab_until(lambda each: each.get_attribute("id") == "finish")


def test_the_focus_stays_where_it_is_when_jobs_come_in(browser, owner):
    owner.ask(2)
    browser.until(lambda: browser.all("#recent a"))
    address = browser.script("const a = document.querySelector('#recent a'); a.focus(); return a.href")
    shown = len(browser.all("#recent a")), browser.text("#figures")
    browser.until(lambda: (len(browser.all("#recent a")), browser.text("#figures")) != shown)
    assert browser.script("return document.activeElement.href") == address


def test_every_field_has_a_label_and_every_page_its_landmarks(browser):
    for path in PAGES:
        browser.open(path)
        for role in ("main", "nav", "header", "footer", "h1"):
            assert len(browser.all(f"body {role}")) >= 1, (path, role)
        assert len(browser.all("h1")) == 1, path
        unnamed = browser.script(
            "return [...document.querySelectorAll("
            "'input:not([type=hidden]),select,textarea,button,progress,svg[role=img]')]"
            ".filter(e => !(e.labels && e.labels.length) && !e.ariaLabel && !e.getAttribute('aria-labelledby')"
            " && !e.textContent.trim()).map(e => e.outerHTML)"
        )
        assert unnamed == [], path
        assert browser.find("html").get_attribute("lang") == "en", path
        assert browser.driver.find_element(By.ID, "said").get_attribute("aria-live") == "polite", path


def test_two_workers_of_one_owner_are_seen_on_one_page(browser, owner, tmp_path):
    with closing(Owner(tmp_path / "second", owner.horde, python=owner.python)) as second:
        second.config |= {
            "dreamer_name": "second worker", "dashboard_port": 0, "dashboard_announce_to": browser.base,
            "dashboard_announce_token": browser.token,
        }  # fmt: skip
        second.start()
        second.until(lambda: "shows this worker too" in second.output)
        browser.open("/workers")
        assert "second worker" in browser.text("#workers")
        assert len(browser.all("#workers tbody tr")) == 2
        second.signal()
        assert second.end() == 0
