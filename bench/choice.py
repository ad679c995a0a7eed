"""Jobs that a worker serves of a demand that shifts: one model chosen for good, beside the one most asked for.

The complete worker with a simulated engine that offers one model at a time, and the embedded Horde: for a third of the
time most requests are for the first model, then for the second, then for the third, with a few for the others. The
same requests come to a worker with a fixed model, to one that lets demand choose (`dynamic_models`), and, to show what
the bound costs, to one that offers all three and loads whatever the next job needs. Minutes are seconds here: the
choice looks, stays and gives way `--hurry` times faster than in life.

    python bench/choice.py --phase 20 --hurry 60
"""

import argparse
import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import sides

#: By demand ÷ fixed; three would be served of three phases by a choice that knew what comes.
GOAL = 2.0
MODELS = ("Tiny SD1.5", "Tiny SD1.5 B", "Tiny SD2 512")
BY_DEMAND = {"dynamic_models": True, "number_of_dynamic_models": 1, "models_to_load": ["ALL"]}
WAYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "fixed": (MODELS[:1], {}),
    "by_demand": (MODELS, BY_DEMAND),
    "all_offered": (MODELS, {}),
}


def asked_in(second: int, arguments: argparse.Namespace) -> list[str]:
    """The models that requests of this second name."""
    wanted = MODELS[min(second // arguments.phase, len(MODELS) - 1)]
    others = [model for model in MODELS if model != wanted]
    few = [others[second // arguments.others_every % len(others)]] if second % arguments.others_every == 0 else []
    # A rate that is no whole number, spread evenly.
    count = int((second + 1) * arguments.rate) - int(second * arguments.rate)
    return [wanted] * count + few


def measure(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Jobs asked for and served, and how often the engine changed its model."""
    models, settings = WAYS[way]
    with tempfile.TemporaryDirectory() as folder, sides.horde(api_latency=arguments.api_latency) as requester:
        timeline = Path(folder) / "timeline.jsonl"
        command = [str(sides.WORKER), "--horde", requester.url, "--logs", str(Path(folder)), "--models", *models]
        command += ["--simulated", "1", "--seconds", str(arguments.seconds)]
        command += ["--load-seconds", str(arguments.load_seconds), "--hurry", str(arguments.hurry)]
        command += ["--settings", json.dumps(settings), "--timeline", str(timeline)]
        asked = 0
        with sides.started(*command) as child:
            sides.said(child)
            began = time.monotonic()
            for second in range(arguments.phase * len(MODELS)):
                jobs = [(model, asked + number) for number, model in enumerate(asked_in(second, arguments))]
                requester.ask(argparse.Namespace(side=64, steps=4), jobs)
                asked += len(jobs)
                time.sleep(max(0.0, began + second + 1 - time.monotonic()))
            served = len(requester.books()["delivered_at"])
        done = [json.loads(line)["model"] for line in timeline.read_text(encoding="utf-8").splitlines()]
    changes = sum(one != other for one, other in pairwise(done))
    found = {"asked": asked, "served": served, "model_changes": changes}
    print(way, found, file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--phase", type=int, default=20, help="seconds for which one model is asked for most")
    parser.add_argument("--hurry", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1.6, help="requests a second for the model asked for most")
    parser.add_argument("--others-every", type=int, default=5, help="seconds between two requests for another model")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a job")
    parser.add_argument("--load-seconds", type=float, default=1.0, help="of another model")
    parser.add_argument("--api-latency", type=float, default=0.05)
    arguments = parser.parse_args()
    sides.build_models(*MODELS)
    ways = {way: measure(way, arguments) for way in WAYS}
    ratio = ways["by_demand"]["served"] / max(1, ways["fixed"]["served"])
    result = {"name": "choice", "figure": round(ratio, 2), "goal": GOAL, "meets": ratio >= GOAL}
    print(json.dumps({**result, **ways, "settings": vars(arguments)}))


if __name__ == "__main__":
    main()
