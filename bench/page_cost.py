"""What it costs the supervisor to be looked at: three browsers with the page open, and Prometheus every five seconds.

One simulated engine does jobs of 20 s in steps of 0.5 s, so that each browser gets an event a second. The supervisor's
processor time is taken in turns without and with readers, of the same process in the same work. The readers are a
process of their own: they sign in as a browser does, and read the page's events.

    python bench/page_cost.py --seconds 20 --turns 3
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import sides

from worker.dashboard.whereabouts import Whereabouts, running_workers
from worker.demo.browsers import Seen, hold_events, scrape, signed_in

GOAL = {"cpu_more": 0.01}
BROWSERS, SCRAPE_EVERY_S = 3, 5.0
JOB_S, STEPS = 20.0, 40
#: Events a second to each browser, at least, for the measurement to count.
LEAST_EVENTS = 0.8


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, sides.horde() as requester:
        sides.build_models(sides.ONE_MODEL)
        base = Path(folder)
        command = [str(sides.WORKER), "--horde", requester.url, "--logs", str(base), "--page", str(base / "w" / "me")]
        with sides.started(*command, "--simulated", "1", "--seconds", str(JOB_S)) as child:
            sides.said(child)
            here = found(base / "w")
            supervisor = psutil.Process(child.pid)
            turns = 2 * arguments.turns * (arguments.seconds + arguments.settle_seconds)
            jobs = [(sides.ONE_MODEL, seed) for seed in range(int(turns / JOB_S) + 3)]
            requester.ask(argparse.Namespace(side=64, steps=STEPS), jobs)
            requester.wait_for(1)
            alone, watched, events = [], [], []
            for _ in range(arguments.turns):
                alone.append(cpu(supervisor, arguments))
                with readers(here) as counted:
                    before = counted()
                    began = time.perf_counter()
                    watched.append(cpu(supervisor, arguments))
                    events.append((counted() - before) / (time.perf_counter() - began) / BROWSERS)
    if (rate := statistics.median(events)) < LEAST_EVENTS:
        raise SystemExit(f"the browsers got {rate:.2f} events a second, which shows nothing")
    more = statistics.median(watched) - statistics.median(alone)
    return {
        "cpu_more": more,
        "cpu_alone": statistics.median(alone),
        "cpu_watched": statistics.median(watched),
        "events_a_second": rate,
    }


def cpu(supervisor: psutil.Process, arguments: argparse.Namespace) -> float:
    """The share of a core that the supervisor takes, once things have settled."""
    time.sleep(arguments.settle_seconds)
    before, began = sum(supervisor.cpu_times()[:2]), time.perf_counter()
    time.sleep(arguments.seconds)
    return float((sum(supervisor.cpu_times()[:2]) - before) / (time.perf_counter() - began))


def found(base: Path) -> Whereabouts:
    """Where the worker is reached, once it says."""
    deadline = time.perf_counter() + sides.PATIENCE_S
    while not (here := running_workers(base)):
        if time.perf_counter() > deadline:
            raise SystemExit("the worker's dashboard did not come up")
        time.sleep(0.1)
    return here[0]


@contextlib.contextmanager
def readers(here: Whereabouts) -> Iterator[Any]:
    """Browsers and Prometheus in a process of their own; yields a function that says how many events came."""
    with sides.started(str(Path(__file__)), "--readers", here.url, "--token", here.token) as child:
        sides.said(child)

        def counted() -> int:
            assert child.stdout is not None
            # It says the number each half second; the newest is wanted.
            deadline = time.perf_counter() + 1.0
            number = 0
            while time.perf_counter() < deadline:
                number = int(sides.said(child)["events"])
            return number

        yield counted


async def read_on(url: str, token: str) -> None:
    """Be three browsers and a Prometheus until ended."""
    seen = Seen()

    async def browser() -> None:
        async with signed_in(url, token) as http:
            await hold_events(http, seen)

    async def tell() -> None:
        while True:
            print(json.dumps({"events": seen.events}), flush=True)
            await asyncio.sleep(0.5)

    prometheus = scrape(url, token, Seen(), every_s=SCRAPE_EVERY_S, paths=("/metrics",))
    await asyncio.gather(prometheus, tell(), *(browser() for _ in range(BROWSERS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settle-seconds", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--readers", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.readers:
        asyncio.run(read_on(arguments.readers, arguments.token))
        return
    figure = measure(arguments)
    print(
        json.dumps(
            {
                "name": "page_cost",
                "figure": {key: round(value, 4) for key, value in figure.items()},
                "goal": GOAL,
                "meets": all(figure[key] <= GOAL[key] for key in GOAL),
                "settings": {"seconds": arguments.seconds, "turns": arguments.turns, "browsers": BROWSERS},
            }
        )
    )


if __name__ == "__main__":
    main()
