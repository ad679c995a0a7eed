"""What the supervisor takes: its share of a core while there are no jobs, its memory, its longest stall under load.

Load is four simulated engines with jobs of 512 x 512 pixels back to back, so that popping, translating, encoding,
uploading and submitting never pause. A stall is how much later than asked the event loop comes back to a task.

    python bench/idle.py --idle-seconds 20 --jobs 160
"""

import argparse
import json
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import sides

GOAL = {"idle_cpu": 0.02, "rss_mb": 150.0, "stall_ms": 50.0}
ENGINES, JOB_S = 4, 0.5


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, sides.horde(api_latency=0.1, upload_latency=0.05) as requester:
        sides.build_models(sides.ONE_MODEL)
        command = [str(sides.WORKER), "--horde", requester.url, "--logs", str(Path(folder)), "--pulse"]
        with sides.started(*command, "--simulated", str(ENGINES), "--seconds", str(JOB_S)) as child:
            for _ in range(ENGINES):
                sides.said(child)
            supervisor = psutil.Process(child.pid)
            time.sleep(arguments.settle_seconds)
            before = sum(supervisor.cpu_times()[:2])
            time.sleep(arguments.idle_seconds)
            idle = (sum(supervisor.cpu_times()[:2]) - before) / arguments.idle_seconds
            requester.ask(
                argparse.Namespace(side=512, steps=4), [(sides.ONE_MODEL, seed) for seed in range(arguments.jobs)]
            )
            # The first jobs bring what is imported and cached once.
            requester.wait_for(2 * ENGINES)
            began = time.time()
            requester.wait_for(arguments.jobs)
            ended = time.time()
            rss = supervisor.memory_info().rss
            child.send_signal(signal.SIGTERM)
            stalls = [late for at, late, _ in last_words(child)["stalls"] if began <= at <= ended]
    return {"idle_cpu": idle, "rss_mb": rss / 1e6, "stall_ms": 1000 * max(stalls, default=0.0)}


def last_words(child: Any) -> dict[str, Any]:
    """The line about stalls, past others."""
    while "stalls" not in (line := sides.said(child)):
        pass
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--settle-seconds", type=float, default=3.0)
    parser.add_argument("--idle-seconds", type=float, default=20.0)
    parser.add_argument("--jobs", type=int, default=160)
    arguments = parser.parse_args()
    figure = measure(arguments)
    print(
        json.dumps(
            {
                "name": "idle",
                "figure": {key: round(value, 4) for key, value in figure.items()},
                "goal": GOAL,
                "meets": all(figure[key] <= GOAL[key] for key in GOAL),
                "settings": vars(arguments),
            }
        )
    )


if __name__ == "__main__":
    main()
