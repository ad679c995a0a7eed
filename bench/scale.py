"""From 1 to 64 engines in one worker: whether each is kept busy, and whether a job costs the supervisor the same.

The engines, each on a card of its own, speak ComfyUI's protocol and sleep through their jobs, so that 64 fit on one
machine; worker and Horde are the real ones, with API and upload latencies as in `throughput`. Duty is the share of
the engines' time that jobs took, by the Horde's clock, in the steady middle of a queue that never runs dry.

    python bench/scale.py --engines 1 8 64 --seconds 1 --rounds 12
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import sides

GOAL = {"duty": 0.95, "cost_ratio": 1.2}


def measure(engines: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A worker with so many engines: their duty, and CPU seconds of the supervisor for a job."""
    latencies = {"api_latency": arguments.api_latency, "upload_latency": arguments.upload_latency}
    with tempfile.TemporaryDirectory() as folder, sides.horde(**latencies) as requester:
        sides.build_models(sides.ONE_MODEL)
        command = [str(sides.WORKER), "--horde", requester.url, "--logs", str(Path(folder))]
        command += ["--simulated", str(engines), "--seconds", str(arguments.seconds)]
        with sides.started(*command) as child:
            for _ in range(engines):
                sides.said(child)
            supervisor = psutil.Process(child.pid)
            # Two rounds to get going, one to end with: none of them counts.
            begin, count = 2 * engines + 1, arguments.rounds * engines
            jobs = [(sides.ONE_MODEL, number) for number in range(begin + count + 2 * engines + 2)]
            requester.ask(argparse.Namespace(side=64, steps=4), jobs)
            requester.wait_for(begin)
            busy = sum(supervisor.cpu_times()[:2])
            requester.wait_for(begin + count)
            busy = sum(supervisor.cpu_times()[:2]) - busy
            delivered = len(requester.books()["delivered_at"]) - begin
            moments = requester.wait_for(len(jobs))
            rss = supervisor.memory_info().rss
    lasted = moments[begin + count - 1] - moments[begin - 1]
    found = {
        "engines": engines,
        "duty": round(count * arguments.seconds / (engines * lasted), 4),
        "cpu_ms_per_job": round(1000 * busy / delivered, 2),
        "rss_mb": round(rss / 1e6, 1),
    }
    print(found, file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engines", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a job")
    parser.add_argument("--rounds", type=int, default=15, help="jobs of each engine that count")
    parser.add_argument("--api-latency", type=float, default=0.1)
    parser.add_argument("--upload-latency", type=float, default=0.05)
    arguments = parser.parse_args()
    rows = [measure(engines, arguments) for engines in arguments.engines]
    duty = min(row["duty"] for row in rows)
    ratio = rows[-1]["cpu_ms_per_job"] / rows[0]["cpu_ms_per_job"]
    print(
        json.dumps(
            {
                "name": "scale",
                "figure": {"duty": duty, "cost_ratio": round(ratio, 3)},
                "goal": GOAL,
                "meets": duty >= GOAL["duty"] and ratio <= GOAL["cost_ratio"],
                "rows": rows,
                "settings": vars(arguments),
            }
        )
    )


if __name__ == "__main__":
    main()
