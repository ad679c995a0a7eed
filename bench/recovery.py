"""An engine killed in the middle of a job: how long until its slot delivers again, and whether any job is lost.

The whole worker with the real ComfyUI and a queue of short jobs. While one is being sampled the engine is killed; the
figure is the worst time over the turns from the kill until the end of the longest gap between two deliveries, which
is the job that was hit, delivered by its second try. Every kill is the first in a worker of its own: engines that die
again and again are started later and later, on purpose.

    python bench/recovery.py --turns 3
"""

import argparse
import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import psutil
import sides

GOAL_S = 15.0
#: Jobs before the kill, and after it.
BEFORE, AFTER = 3, 5
LOOK_EVERY_S = 0.02


def kill_engine(worker_pid: int) -> None:
    """kill -9 for the worker's engine."""
    for child in psutil.Process(worker_pid).children():
        if any(word.endswith("launch.py") for word in child.cmdline()):
            child.kill()
            return
    raise SystemExit("the worker has no engine to kill")


def measure(requester: sides.Requester, worker_pid: int, turn: int, arguments: argparse.Namespace) -> float:
    """Seconds from the kill until the slot delivers again."""
    done = len(requester.books()["delivered_at"])
    total = done + BEFORE + AFTER
    requester.ask(arguments, [(sides.ONE_MODEL, 1000 * turn + number) for number in range(BEFORE + AFTER)])
    requester.wait_for(done + BEFORE, look_every_s=LOOK_EVERY_S)
    killed_at = time.time()
    kill_engine(worker_pid)
    moments = [killed_at, *(moment for moment in requester.wait_for(total) if moment > killed_at)]
    _, again_at = max(pairwise(moments), key=lambda pair: pair[1] - pair[0])
    return again_at - killed_at


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    took = []
    with tempfile.TemporaryDirectory() as folder, sides.horde() as requester:
        sides.build_models(sides.ONE_MODEL)
        for turn in range(arguments.turns):
            with sides.started(str(sides.WORKER), "--horde", requester.url, "--logs", str(Path(folder))) as child:
                took.append(measure(requester, child.pid, turn, arguments))
            print(f"turn {turn}: delivering again after {took[-1]:.1f} s", file=sys.stderr)
        books = requester.books()
    lost, faulted = int(books["popped"]) - int(books["answered"]), int(books["faulted"])
    figure = {"again_s": round(max(took), 2), "lost": lost, "faulted": faulted}
    goal = {"again_s": GOAL_S, "lost": 0, "faulted": 0}
    meets = max(took) <= GOAL_S and not lost and not faulted
    result = {"name": "recovery", "figure": figure, "goal": goal, "meets": meets}
    print(json.dumps({**result, "each_s": [round(seconds, 2) for seconds in took], "settings": vars(arguments)}))


if __name__ == "__main__":
    main()
