"""A real Chromium before the page of a real worker, which serves the embedded Horde with a scripted engine."""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.e2e.conftest import MODEL, PATIENCE_S, Owner
from worker.demo.horde.records import Baseline, ModelFacts
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde

LINK = re.compile(r"^(http://\S+)/sign-in\?token=(\S+)$")
#: Names under which Debian and others install the browser.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE = (390, 844)


def _program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(f"There is no {names[0]}: ./test.sh installs it; without it, deselect by -m 'not browser'")
    return found


@dataclass
class Browser:
    """One Chromium, and the page it is to look at."""

    driver: Chrome
    base: str
    token: str

    def open(self, path: str = "/") -> None:
        self.driver.get(f"{self.base}{path}")

    def sign_in(self) -> None:
        self.open(f"/sign-in?token={self.token}")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Click it in the middle of the window, where nothing that stays in view lies over it."""
        element = self.find(selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def text(self, selector: str = "body") -> str:
        """What is to be read in an element; in one step, since the page replaces what is in it."""
        return str(self.script("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until something is so; elements that the page replaces meanwhile are looked for again."""
        wait = WebDriverWait(self.driver, PATIENCE_S, 0.1, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: condition())

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]

    def requested(self) -> set[str]:
        """Addresses asked for since the last look, but for those within the page itself."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return {
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
            and not event["params"]["request"]["url"].startswith(("data:", "blob:", "about:", "chrome:"))
        }


def start_browser(folder: Path) -> Chrome:
    options = ChromeOptions()
    options.binary_location = _program(*BROWSERS)
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
        "--disable-background-networking", "--disable-component-update", "--no-first-run", "--window-size=1280,900",
        f"--user-data-dir={folder}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options=options, service=Service(_program("chromedriver", "chromium.chromedriver")))


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, quick_worker_python: Path) -> Iterator[Owner]:
    """An owner with a worker that works on one job after another."""
    state = EmbeddedHorde(models={MODEL: ModelFacts(Baseline.SD1)}, seed=1)
    folder, python = tmp_path_factory.mktemp("owner") / "worker", quick_worker_python
    with (
        serve_in_thread(state) as horde,
        closing(Owner(folder, horde, python=python, engine_python=python)) as owner,
    ):
        owner.config |= {"dashboard_port": 0, "max_threads": 2}
        owner.play(seconds=2.0)
        owner.start()
        owner.until(lambda: "Serving" in owner.output)
        yield owner


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    driver = start_browser(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def link(owner: Owner) -> tuple[str, str]:
    """The address of the page and its token, as the terminal shows them."""
    shown = owner.command("status", "--link")
    found = LINK.match(shown.stdout.strip())
    assert found is not None, shown
    return found[1], found[2]


@pytest.fixture
def stranger(chromium: Chrome, link: tuple[str, str]) -> Browser:
    """Nobody has shown a token in this browser."""
    browser = Browser(chromium, *link)
    browser.complaints()
    browser.requested()
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return browser


@pytest.fixture
def browser(stranger: Browser) -> Browser:
    """The owner's browser: it has come by the link."""
    stranger.sign_in()
    return stranger


@pytest.fixture
def plain_browser(stranger: Browser) -> Iterator[Browser]:
    """The owner's browser with scripts turned off."""
    disabled = "Emulation.setScriptExecutionDisabled"
    stranger.driver.execute_cdp_cmd(disabled, {"value": True})
    stranger.sign_in()
    yield stranger
    stranger.driver.execute_cdp_cmd(disabled, {"value": False})


@contextmanager
def serve_page(html: str) -> Iterator[int]:
    """Somebody else's page at a port of this machine."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
