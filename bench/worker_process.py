"""The worker of a bench as a process of its own, until SIGTERM: generated models, or engines that only pretend.

Prints a JSON line when an engine is ready (`ready_after_s`), and at the end how late its event loop was (`stalls`).
`--timeline FILE` gets a JSON line for each job that ended: seconds since the pop at which it took its first step, was
rendered, and had its last answer.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from loguru import logger

from worker import logs
from worker.app.lifecycle import run
from worker.app.worker_spec import Tolerance
from worker.dashboard.reader import Dashboard
from worker.demo.engine.script import Script
from worker.demo.engine.settings import scripted_settings
from worker.demo.run import tiny_worker
from worker.demo.tiny.recipes import FULL_SIZE_MODELS, TINY_MODELS
from worker.engine.devices import Device
from worker.engine.install import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.process import EngineSettings
from worker.horde.limits import Limits
from worker.images import RawImage
from worker.jobs.job import JobEvent, Stage
from worker.safety.checker import NoChecker
from worker.safety.verdict import Verdict
from worker.scheduling.demand_policy import ChoiceTimes

#: The event loop is asked for an answer this often, and how late it is is noted from so many seconds on, so many times.
BEAT_S, LATE_S, MOST_NOTED = 0.005, 0.001, 50_000


def with_threads(settings: EngineSettings, threads: int) -> EngineSettings:
    """The same engine computing on so many threads; 0 leaves it to ComfyUI."""
    more = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}
    return replace(settings, environment={**settings.environment, **more})


def simulated(count: int, seconds: float, folder: Path, *, load_seconds: float = 0.0) -> Sequence[EngineSettings]:
    """Processes that speak ComfyUI's protocol and take so long for a job, without computing anything.

    `load_seconds` come on top where a job has another model than the last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "script.json"
    Script(seconds=seconds, load_seconds=load_seconds).write(script)
    one = scripted_settings(folder, script=script, start_timeout_s=300.0)
    return [
        # Each on a card of its own, with a job of its own in the queue.
        replace(one, device=f"card {number}", base_directory=folder / str(number), log_file=folder / f"{number}.log")
        for number in range(1, count + 1)
    ]


def hurried(tolerance: Tolerance, factor: float) -> Tolerance:
    """The same with a choice by demand whose minutes are so many times shorter."""
    times = {each.name: getattr(tolerance.choice, each.name) / factor for each in fields(tolerance.choice)}
    every_s = tolerance.demand_look_every_s / factor
    return replace(tolerance, choice=ChoiceTimes(**times), demand_look_every_s=every_s)


class Listener(NoChecker):
    """Listens to the pulse of the worker's event loop, from the first image on: listening is no idle time either."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        #: when, how late, and how much the loop's own thread computed meanwhile; seconds
        self.stalls: list[tuple[float, float, float]] = []

    def running(self) -> AbstractAsyncContextManager[object]:
        return self._listening()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def check(self, image: RawImage, **context: Any) -> Verdict:
        self._begun.set()
        return await super().check(image, **context)

    async def _beat(self) -> None:
        await self._begun.wait()
        while True:
            expected, before = time.perf_counter() + BEAT_S, time.thread_time()
            await asyncio.sleep(BEAT_S)
            late = time.perf_counter() - expected
            if late > LATE_S and len(self.stalls) < MOST_NOTED:
                self.stalls.append((time.time(), late, time.thread_time() - before))


class Timeline:
    """Writes down when each job came to what; listens to the job events."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file

    def note(self, event: JobEvent) -> None:
        job = event.job
        if event.stage not in {Stage.DONE, Stage.FAULTED}:
            return
        moments = {"first_step_s": job.started_at, "rendered_s": job.rendered_at, "ended_s": job.ended_at}
        row = {name: moment and round(moment - job.popped_at, 4) for name, moment in moments.items()}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"model": job.pop.model, "fault": job.fault, **row}) + "\n")


def say(**content: Any) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--horde", required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=["Tiny SD1.5"])
    parser.add_argument("--engine-threads", type=int, default=0)
    parser.add_argument("--simulated", type=int, default=0, metavar="ENGINES")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a job on a simulated engine")
    parser.add_argument("--load-seconds", type=float, default=0.0, help="of another model on a simulated engine")
    parser.add_argument("--hurry", type=float, default=1.0, help="demand chooses models so many times faster")
    parser.add_argument("--pulse", action="store_true", help="note how late the event loop is")
    parser.add_argument("--device", choices=[kind.value for kind in Accelerator], default=Accelerator.CPU.value)
    parser.add_argument("--full-size", action="store_true", help="models of the published sizes")
    parser.add_argument("--settings", type=json.loads, default={}, help="keys of bridgeData.yaml as JSON")
    parser.add_argument("--timeline", type=Path)
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="serve the dashboard; its address lies there")
    arguments = parser.parse_args()
    logs.set_up(arguments.logs, console_level="ERROR" if arguments.simulated else "WARNING")
    logger.add(
        lambda message: say(ready_after_s=message.record["extra"]["seconds"]),
        filter=lambda record: record["extra"].get("action") == "engine_ready",
    )
    models = [model for model in (*TINY_MODELS, *FULL_SIZE_MODELS) if model.name in arguments.models]
    setup = tiny_worker(
        Runtime.locate(),
        f"{arguments.horde}/api",
        models,
        logs=arguments.logs,
        full_size=arguments.full_size,
        device=Device(Accelerator(arguments.device)),
        settings=arguments.settings,
    )
    if arguments.timeline:
        setup.events.subscribe(Timeline(arguments.timeline).note)
    engines = [with_threads(engine, arguments.engine_threads) for engine in setup.engines]
    if arguments.simulated:
        engines = list(
            simulated(
                arguments.simulated, arguments.seconds, arguments.logs / "engines", load_seconds=arguments.load_seconds
            )
        )
        # The real Horde takes 60 submits a second from one address; here the worker is what is measured.
        setup = replace(setup, limits=Limits(pops_per_s=1000, submits_per_s=1000))
    setup = replace(setup, engines=engines, tolerance=hurried(setup.tolerance, arguments.hurry))
    if arguments.page:
        setup = replace(setup, readers=(Dashboard(setup.live, arguments.page),))
    if arguments.pulse:
        setup = replace(setup, safety=(listener := Listener()))
        run(setup)
        say(stalls=listener.stalls)
    else:
        run(setup)


if __name__ == "__main__":
    main()
