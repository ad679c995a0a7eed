"""The same as `throughput` with two models in turn: every job needs the model that the last one did not.

Bare ComfyUI alternates too, as it comes, so the ratio shows what the worker adds or saves beside it. What one model
alone would give is not the measure: it is told as `of_one_model`.

    python bench/two_models.py --jobs 10 --turns 3 --side 128
"""

import argparse
import asyncio
import json
import statistics
import sys

import sides

GOAL = 0.95
MODELS = ("Tiny SD1.5", "Tiny SD1.5 B")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    # Below this the load outweighs the picture so far that the worker takes the models for too slow to offer.
    sides.options(parser, jobs=10, turns=3, side=128)
    parser.add_argument("--alone", type=int, default=1, help="turns with one model, for comparison")
    arguments = parser.parse_args()
    turns = asyncio.run(sides.compare(arguments, MODELS))
    ratio = statistics.median(turns.ratios)
    details = turns.details()
    if arguments.alone:
        print("one model alone:", file=sys.stderr)
        alone = argparse.Namespace(**{**vars(arguments), "turns": arguments.alone})
        limit = asyncio.run(sides.compare(alone, MODELS[:1])).details()["limit_jobs_per_min"]
        details["of_one_model"] = round(details["worker_jobs_per_min"] / limit, 4)
    result = {"name": "two_models", "figure": round(ratio, 4), "goal": GOAL, "meets": ratio >= GOAL}
    print(json.dumps({**result, **details, "settings": vars(arguments)}))


if __name__ == "__main__":
    main()
