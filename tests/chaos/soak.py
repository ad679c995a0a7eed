"""A whole worker, at work for a given time while everything around it fails at random and strangers are hostile.

Then the books are balanced.

    python -m tests.chaos.soak SECONDS [--json] [--seed N] [--engines N] [--real] [--browsers N]

The last line is JSON: ids that were popped and answered, ids lost (unanswered, or too late), needless second answers,
ids of hostile jobs, how often something was made to fail, and what the worker left behind. Good jobs are those without
hostile parts: `good_delivered`, `good_hit` by something that was injected, and `good_lost` without such a reason. Exit
1 when the books do not balance, a good job was lost or anything leaked. The time is spent in sessions of one worker
each: some end by a drain, some are broken off.
`--real` puts the real ComfyUI with a tiny model in the place of one scripted engine. `--browsers` lets so many browsers
look at the worker's dashboard all the time: they hold its events, load its pages, and read its status and metrics; all
but one leave and come back. What they were refused while the worker was to serve (`page_failures`) also ends with 1,
and what they leave behind counts.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from loguru import logger
from PIL import Image

from worker.aio import timeout
from worker.app.run import serve
from worker.app.worker_spec import Tolerance, WorkerSpec
from worker.circuit_breaker import CircuitBreaker
from worker.demo import tinies
from worker.demo.horde.dispatch import Rules
from worker.demo.horde.records import Baseline, ImageRequest, ModelFacts
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde
from worker.demo.horde.storage import ObjectStorage
from worker.demo.safety.settings import scripted_safety
from worker.engine.install.layout import Runtime
from worker.jobs.journal import Journal
from worker.models.disk.store import Store
from worker.process.supervisor import RestartPolicy
from worker.safety.gate import SafetyGate
from worker.scheduling.estimates.cooldowns import ModelCooldowns
from worker.scheduling.estimates.memory import OutOfMemoryLimits
from worker.scheduling.pop_backoff import PopPauses

from .browsers import MOST_BROWSERS, Browsers
from .good_jobs import GoodJobs
from .leaks import GROWTH_BYTES, Holdings, Readings, bytes_in_use, leaks_since, listening, remains
from .misfortunes import Misfortunes
from .rig import MODEL, UNLIMITED, OneModel, Rig
from .strangers import Strangers

#: A session of one worker, in seconds.
SHORTEST_SESSION_S, LONGEST_SESSION_S = 15.0, 120.0
#: Of the sessions that end before the time is up, this share is broken off in the middle of everything.
BROKEN_OFF = 0.5
#: For the end of a session, whose jobs may have come just before it.
DRAIN_S = 150.0
#: Requests that wait at the Horde, so that there is always something to do.
BACKLOG = 6
#: An id without an answer after its time is found to the second, and what nobody can serve makes room for others.
RULES = Rules(most_faults=10**9, request_expiry_s=45.0, sweep_s=1.0, ttl_share=0.4)
#: What is a fault here is meant, and sets nothing aside.
TOLERANCE = Tolerance(
    faults=UNLIMITED,
    restarts=lambda: RestartPolicy(backoff_s=(0.0, 0.2), limit=10**9),
    cooldowns=lambda: ModelCooldowns(lambda: CircuitBreaker(limit=10**9, open_s=0.0)),
    out_of_memory=lambda: OutOfMemoryLimits(lasts_s=0.0),
    silence_limit_s=3.0,
    # The worker's pauses are made for a Horde that is far away: a soak is to be busy.
    pauses=PopPauses(empty_s=0.2, maintenance_s=2.0, error_s=0.2, longest_error_s=2.0),
)
#: The real engine says nothing while it loads its libraries for the first job.
REAL_SILENCE_S = 30.0
CONFIG = {"max_batch": 4, "queue_size": 2, "allow_lora": True, "allow_img2img": True, "allow_painting": True}
READING_S = 1.0
#: Pictures that the Horde keeps.
STORED_BYTES = 4 * 1024**2


@dataclass(frozen=True)
class Balance:
    """The result, as it is printed."""

    popped: int
    answered: int
    lost: int
    duplicate: int
    hostile: int
    good_delivered: int
    good_hit: int
    good_lost: int
    faults_injected: int
    #: answers and events that browsers got, and what they were refused
    page_answers: int
    page_events: int
    page_failures: dict[str, int]
    leaks: list[str]

    @property
    def holds(self) -> bool:
        failed = self.lost or self.duplicate or self.good_lost or self.page_failures or self.leaks
        return self.popped == self.answered and not failed


@dataclass
class Requester:
    """Keeps the Horde supplied with requests of every kind."""

    rig: Rig
    chance: random.Random
    ids: deque[str] = field(default_factory=lambda: deque(maxlen=3 * BACKLOG))

    async def ask(self) -> None:
        """Until cancelled."""
        while True:
            while self.rig.horde.state.heartbeat()["queue"] < BACKLOG:
                self.ids.append(self.rig.horde.state.enqueue(self._request()))
            await asyncio.sleep(0.1)

    def _request(self) -> ImageRequest:
        chance = self.chance
        params: dict[str, Any] = {
            "width": 64 * chance.randint(1, 2),
            "height": 64 * chance.randint(1, 2),
            "steps": chance.randint(1, 6),
            "cfg_scale": 5.0,
            "n": chance.choice((1, 1, 1, 2, 4)),
            "sampler_name": chance.choice(("k_euler", "k_euler_a", "k_heun")),
        }
        if chance.random() < 0.2:  # a LoRA that is nowhere to be had
            params["loras"] = [{"name": "no such thing", "model": 1.0}]
        pictures: dict[str, Any] = {}
        if chance.random() < 0.3:
            params["denoising_strength"] = 0.6
            pictures["source_image"] = _picture(chance)
            if chance.random() < 0.3:
                pictures["source_mask"] = _picture(chance)
        nude = chance.random() < 0.1
        prompt = f"{'[nsfw] ' if nude else ''}fox {chance.random()}"
        return ImageRequest(prompt, (MODEL,), params, nsfw=False, censor_nsfw=nude, **pictures)


def _picture(chance: random.Random) -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (16, 16), chance.randbytes(16 * 16 * 3)).resize((96, 64)).save(out, "PNG")
    return out.getvalue()


class Soak:
    """One soak."""

    def __init__(self, rig: Rig, *, seed: int, real: bool, browsers: int, tell: Callable[[str], None]) -> None:
        self.rig = rig
        workers = rig.folder / "workers"
        self._browsers = Browsers(workers, browsers)
        rig.dashboard = workers / "chaos" if browsers else None
        self._tell = tell
        self._chance = random.Random(seed)
        self._requester = Requester(rig, random.Random(seed + 2))
        self._strangers = Strangers(random.Random(seed + 4))
        self._misfortunes = Misfortunes(
            rig, random.Random(seed + 3), lambda: list(self._requester.ids), self._strangers
        )
        self._good = GoodJobs()
        self._real = real
        self._ports: set[int] = set()
        self._leaks: list[str] = []
        self._readings = Readings(bytes_in_use)

    async def run(self, seconds: float) -> Balance:
        """Keep it up for so long, then tell what came of it."""
        loop = asyncio.get_running_loop()
        await self._warm_up()
        reading = asyncio.ensure_future(self._readings.take(READING_S))
        before = Holdings.now()
        ends_at = loop.time() + seconds
        number = 0
        while (left := ends_at - loop.time()) > 0:
            number += 1
            session_s = self._chance.uniform(SHORTEST_SESSION_S, LONGEST_SESSION_S)
            last = session_s + SHORTEST_SESSION_S > left
            broken_off = not last and self._chance.random() < BROKEN_OFF
            async with self._browsers.looking():
                await self._session(left if last else session_s, broken_off=broken_off)
            self._tell(f"session {number}: {json.dumps(asdict(self._balance()))}")
            if not last:
                self._leaks += [f"{leak} (after session {number})" for leak in await leaks_since(before)]
        reading.cancel()
        await asyncio.wait([reading])
        self._leaks += await leaks_since(before)
        self._leaks += listening(self._ports)
        self._leaks += remains(Path(tempfile.gettempdir()))
        if (growth := self._readings.growth) > GROWTH_BYTES:
            self._leaks.append(f"memory grew by {growth / 1024**2:.0f} MiB")
        if self.rig.journal and (left_open := Journal(self.rig.journal).open_ids):
            self._leaks.append(f"journal {sorted(left_open)}")
        counts = {"faults": self._misfortunes.counts, "hostile": self._strangers.sent, "good_lost": self._good.lost}
        told = {name: dict(sorted(each.items())) for name, each in counts.items()}
        self._tell(json.dumps({**told, "memory_growth_bytes": growth}))
        return self._balance()

    async def _warm_up(self) -> None:
        """Everything that is made once is made now, so that it does not count as left behind."""
        self.rig.play()
        async with self._browsers.looking(), self.rig.working():
            await self.rig.done(self.rig.ask(2))
            await self.rig.until(lambda: self._browsers.have_looked)
            self._browsers.worker_ends()
        self._judge(broken_off=False)

    async def _session(self, seconds: float, *, broken_off: bool) -> None:
        misfortunes = self._misfortunes
        misfortunes.begin()
        stop = asyncio.Event()
        serving = asyncio.ensure_future(serve(self._setup(), stop))
        helpers = [asyncio.ensure_future(each) for each in (self._requester.ask(), misfortunes.strike(), self._watch())]
        try:
            await asyncio.wait((serving, *helpers), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for ended in helpers:
                if ended.done():
                    await ended
        finally:
            self._browsers.worker_ends()
            # A drain takes place in the midst of it all; only its end is spared.
            if broken_off:
                serving.cancel()
            else:
                stop.set()
                await asyncio.wait([serving], timeout=self._chance.uniform(1.0, 5.0))
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            misfortunes.calm()
            async with timeout(DRAIN_S):
                [end] = await asyncio.gather(serving, return_exceptions=True)
        if isinstance(end, Exception):
            raise end
        self._judge(broken_off=broken_off)

    def _judge(self, *, broken_off: bool) -> None:
        """What became of the jobs that were begun since the last time."""
        books = self.rig.horde.state.accounting()
        self._good.judge(books, self.rig.jobs, hostile=self._strangers.ids, broken_off=broken_off)
        self.rig.jobs.clear()

    def _setup(self) -> WorkerSpec:
        checker = scripted_safety(
            self.rig.folder / "safety",
            script=self._misfortunes.safety_script,
            check_timeout_s=3.0,
            start_silence_s=10.0,
        )
        self.rig.safety = SafetyGate(lambda: checker, policy=TOLERANCE.restarts())
        setup = self.rig.setup()
        if not self._real:
            return setup
        runtime = Runtime.locate()
        folder = tinies.tiny_folder(runtime)
        real = replace(
            setup.engines[-1],
            python=runtime.engine_python,
            comfyui=tinies.engine_tree(folder),
            model_paths=Store(tinies.models_folder(folder)).model_paths(),
            arguments=("--cpu",),
            start_timeout_s=120.0,
        )
        return replace(setup, engines=[*setup.engines[:-1], real])

    async def _watch(self) -> None:
        """Note the ports that engines listen on."""
        while True:
            for engine in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    self._ports |= {
                        each.laddr.port for each in engine.net_connections("tcp") if each.status == psutil.CONN_LISTEN
                    }
            await asyncio.sleep(1.0)

    def _balance(self) -> Balance:
        books = self.rig.horde.state.accounting()
        return Balance(
            popped=books.popped,
            answered=books.answered,
            lost=books.lost,
            duplicate=books.duplicates + books.late + books.unknown,
            hostile=len(self._strangers.ids & books.outcomes.keys() - books.undelivered),
            good_delivered=len(self._good.delivered),
            good_hit=len(self._good.hit),
            good_lost=len(self._good.lost),
            faults_injected=self._misfortunes.counts.total(),
            page_answers=self._browsers.seen.answers,
            page_events=self._browsers.seen.events,
            page_failures=dict(self._browsers.failures),
            leaks=list(self._leaks),
        )


async def soak(
    folder: Path, seconds: float, *, seed: int, engines: int, real: bool, browsers: int, tell: Callable[[str], None]
) -> Balance:
    """The whole of it in `folder`."""
    # What the double keeps must not hide what the worker does.
    storage = ObjectStorage(capacity_bytes=STORED_BYTES)
    state = EmbeddedHorde(models={MODEL: ModelFacts(Baseline.SD1)}, rules=RULES, storage=storage, seed=seed)
    with serve_in_thread(state) as horde:
        rig = Rig(horde, folder, engines=engines, config=CONFIG, tolerance=TOLERANCE, journal=folder / "journal.jsonl")
        if real:
            await tinies.build(Runtime.locate(), {"sd15"}, tell=lambda _: None)
            rig.models = OneModel("tiny_sd15.safetensors")
            rig.tolerance = replace(TOLERANCE, silence_limit_s=REAL_SILENCE_S)
        return await Soak(rig, seed=seed, real=real, browsers=browsers, tell=tell).run(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    parser.add_argument("--seed", type=int, default=None, help="of the misfortunes; told when it was drawn")
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--real", action="store_true", help="the last engine is the real ComfyUI")
    parser.add_argument("--browsers", type=int, default=0, choices=range(MOST_BROWSERS + 1), metavar="N")
    parser.add_argument("--log", type=Path, help="where the worker's own log goes; nowhere without it")
    asked = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    logger.remove()
    if asked.log:
        logger.add(asked.log, level="DEBUG")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        scratch = folder / "scratch"
        scratch.mkdir()
        # Here and in the engines.
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)

        def tell(line: str) -> None:
            if not asked.json:
                print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command's words

        tell(f"seed {seed}, {asked.seconds:g} s, {asked.engines} engines, {asked.browsers} browsers")
        work = soak(
            folder,
            asked.seconds,
            seed=seed,
            engines=asked.engines,
            real=asked.real,
            browsers=asked.browsers,
            tell=tell,
        )
        balance = asyncio.run(work)
    print(json.dumps(asdict(balance)))  # noqa: T201 - a command's answer
    return 0 if balance.holds else 1


if __name__ == "__main__":
    sys.exit(main())
