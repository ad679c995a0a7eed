"""From launch to the first pop, beyond what the engine itself needs to start.

The whole worker as a process with the real ComfyUI, several times. From the seconds between launch and the first pop
that reaches the Horde those are taken off in which the engine started; what is left is ours.

    python bench/start.py --turns 4
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import sides

GOAL_S = 1.0
LOOK_EVERY_S = 0.02


def measure(folder: Path) -> tuple[float, float]:
    """Seconds to the first pop, and of these the engine's."""
    with sides.horde() as requester:
        began = time.perf_counter()
        with sides.started(str(sides.WORKER), "--horde", requester.url, "--logs", str(folder)) as child:
            engine_s = float(sides.said(child)["ready_after_s"])
            while not requester.http.get("/api/v2/workers").json():
                if time.perf_counter() - began > sides.PATIENCE_S:
                    raise SystemExit("the worker never asked for a job")
                time.sleep(LOOK_EVERY_S)
            return time.perf_counter() - began, engine_s


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=4)
    arguments = parser.parse_args()
    ours, engines = [], []
    with tempfile.TemporaryDirectory() as folder:
        sides.build_models(sides.ONE_MODEL)
        for turn in range(arguments.turns + 1):
            first_pop_s, engine_s = measure(Path(folder) / str(turn))
            print(f"turn {turn}: first pop after {first_pop_s:.2f} s, engine {engine_s:.2f} s", file=sys.stderr)
            if turn:  # the first reads everything from the disk
                ours.append(first_pop_s - engine_s)
                engines.append(engine_s)
    figure = statistics.median(ours)
    result = {"name": "start", "figure": round(figure, 3), "goal": GOAL_S, "meets": figure <= GOAL_S}
    each = [round(seconds, 3) for seconds in ours]
    print(json.dumps({**result, "unit": "s", "each": each, "engine_s": round(statistics.median(engines), 2)}))


if __name__ == "__main__":
    main()
