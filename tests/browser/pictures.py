"""The pictures of the page in docs/images, made anew: `make pictures`. They show a made-up worker at a fixed hour.

Not a test: what they look like is judged by people. `tests.browser` holds it, for it needs the browser of the tests.
"""

import asyncio
import base64
import os
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver import Chrome

from tests.browser.conftest import start_browser
from tests.unit.console.views import job_record, job_view
from tests.unit.dashboard.visitors import TOKEN, Page
from worker.dashboard.server import listen, serve
from worker.status.snapshot import (
    AdviceView,
    HourOfWork,
    JobRecord,
    MessageView,
    ModelView,
    Outcome,
    Phase,
    PredictionView,
    Session,
    SlotView,
    Snapshot,
    Standing,
    Tally,
    Versions,
    WarningView,
)
from worker.units import GIB

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
#: a Sunday at 22:04 UTC
NOW = 1_800_000_000.0 + 14 * 3600 + 240
HOUR_S = 3600.0
#: name → width and height of the window, height of the picture, width to which it is scaled
SIZES = {"desktop": (1240, 900, 1640, 930), "phone": (390, 844, 1640, 390)}
MODELS = ("AlbedoBase XL (SDXL)", "Juggernaut XL", "Dreamshaper", "Deliberate")
RESTS_ON = "An estimate from 6 h of the Horde's queue; engines were idle 21% of the time; a job takes 5.4 s here."


def made_up() -> tuple[Snapshot, tuple[HourOfWork, ...], tuple[JobRecord, ...]]:
    """A worker that earns, with advice that would have it earn more."""
    dice = random.Random(7)
    begins = NOW // HOUR_S * HOUR_S
    hours = []
    for ago in range(23, -1, -1):
        share = 240 / HOUR_S if ago == 0 else 1.0
        jobs = round((48 + 40 * (8 <= (22 - ago) % 24 <= 23) + dice.randint(-8, 12)) * share)
        total = Tally(jobs, int(ago in {3, 11, 12}), jobs, jobs * 17.2, jobs * 5.4)
        hours.append(HourOfWork(begins - ago * HOUR_S, total))
    ended = tuple(
        job_record(
            id=f"{number:08x}-0000", model=MODELS[number % 4], ended_at=NOW - 9.0 - 31 * number,
            popped_at=NOW - 16.0 - 31 * number, kudos=dice.choice([8.1, 11.4, 21.0, 23.6]),
            outcome=Outcome.GIVEN_BACK if number == 5 else Outcome.DONE,
        )
        for number in range(8)
    )  # fmt: skip
    rendering = tuple(
        job_view(
            id=f"{slot}", slot=slot, model=model, width=1024, height=height, begun_at=NOW - 3.0, stage="rendering",
            step=step, of_steps=30, left_s=left_s, details=details,
        )
        for slot, model, height, step, left_s, details in (
            (1, "Juggernaut XL", 1024, 11, 4.1, ("2 LoRA",)), (2, "Deliberate", 768, 18, 2.3, ()),
        )
    )  # fmt: skip
    day = sum((hour.total for hour in hours), Tally())
    snapshot = Snapshot(
        at=NOW, name="Kitchen PC", phase=Phase.SERVING, started_at=NOW - 26 * HOUR_S,
        versions=Versions("0.1.0", "agent", "3.12"),
        session=Session(day, uptime_s=26 * HOUR_S, idle_s=5.4 * HOUR_S, kudos_per_hour=day.kudos / 24),
        slots=tuple(
            SlotView(job.slot or 0, f"GPU {number}", "working", memory_bytes=int(5.9 * GIB), job=job)
            for number, job in enumerate(rendering)
        ),
        jobs=(*rendering, job_view(id="3")), ended=ended,
        models=tuple(ModelView(model, "served") for model in MODELS),
        passed_over="Of the requests that wait at the Horde, 37 want LoRAs (allow_lora); 9 want larger pictures "
        "(max_power).",
        warnings=(
            WarningView(
                "models", "1 of the models can't be served: Hassanblend (the file has another SHA256 than the Horde's "
                "list says).", "See `horde-bridge models list`.", NOW,
            ),
        ),
        advice=(
            AdviceView(
                "model Pony", "models_to_load", "Pony Diffusion XL",
                "52 jobs an hour ask for Pony Diffusion XL, which 3 workers serve.",
                "Add Pony Diffusion XL to models_to_load.", 31.0, 580.0, int(6.5 * GIB), int(6.5 * GIB), RESTS_ON,
            ),
            AdviceView(
                "lora", "allow_lora", "true", "37 jobs an hour asked for LoRAs, and this worker does not take them.",
                "Set `allow_lora: true`.", 22.0, 410.0, 10 * GIB, basis=RESTS_ON,
            ),
        ),
        predictions=(
            PredictionView(
                "max_pixels", "max_power was changed 5 h ago: up to 14 jobs an hour were predicted, 11 came.",
                NOW - 5 * HOUR_S, 14.0, 55,
            ),
        ),
        standing=Standing(
            account="Fox#1024", account_kudos=184_260.0, trusted=True, maintenance=False, worker_kudos=96_518.0,
            messages=(MessageView("The Horde updates its servers on Sunday, 08:00 UTC.", NOW - 2 * HOUR_S),),
        ),
    )  # fmt: skip
    return snapshot, tuple(hours), ended


async def watch(snapshot: Snapshot) -> AsyncIterator[Snapshot]:
    """One that nothing happens to."""
    while True:
        yield snapshot
        await asyncio.sleep(1.0)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The page of that worker; its address."""
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), 0
    ended: asyncio.Future[None] = loop.create_future()

    async def run() -> None:
        nonlocal port
        page = Page(folder)
        snapshot, hours, ended_jobs = made_up()
        board: Any = page.rig.board
        snapshot = replace(snapshot, machine=board.snapshot().machine)
        board.snapshot, board.hours = lambda: snapshot, lambda count=24: hours[-count:]
        board.watch = lambda: watch(snapshot)
        board.history = lambda **_: (ended_jobs, len(ended_jobs))
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        serving = asyncio.ensure_future(serve(page.app, listening))
        ready.set()
        await ended
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        ready.wait()
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(ended.set_result, None)
        thread.join()
        loop.close()


def picture(driver: Chrome, name: str, scheme: str) -> Image.Image:
    """What a window of this kind shows."""
    width, height, shown, scaled = SIZES[name]
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.refresh()
    time.sleep(1.5)
    clip = {"x": 0, "y": 0, "width": width, "height": shown, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    image = Image.open(BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    return image.resize((scaled, image.height * scaled // image.width), Image.Resampling.LANCZOS)


def main() -> None:
    """Make all of them."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as base:
        driver = start_browser(Path(folder) / "browser")
        try:
            driver.get(f"{base}/sign-in?token={TOKEN}")
            for name in SIZES:
                for scheme in ("light", "dark"):
                    image = picture(driver, name, scheme).quantize(256, dither=Image.Dither.NONE)
                    image.save(FOLDER / f"page-{name}-{scheme}.png", optimize=True)
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
