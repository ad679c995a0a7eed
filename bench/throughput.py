"""How much of the bare engine's throughput the whole worker keeps.

Within one run, in turns: bare ComfyUI fed back to back with the very graphs the worker makes, and the whole worker
(its own process) against the embedded Horde (another process) with a saturated queue and settable latencies. Both
use the same tiny SD1.5 on the CPU, every job with another seed. The figure is the median ratio over the turns.

Both engines compute on one thread: that core is the "card", and the worker and the Horde have the other core, as on
a machine whose engine has a device of its own. Jobs are timed by the Horde's clock, delivery to delivery.

    python bench/throughput.py --jobs 20 --turns 6 --side 64 --steps 4 --api-latency 0.1 --upload-latency 0.05
"""

import argparse
import asyncio
import json
import statistics

import sides

GOAL = 0.97


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    sides.options(parser, jobs=20, turns=6)
    arguments = parser.parse_args()
    turns = asyncio.run(sides.compare(arguments, [sides.ONE_MODEL]))
    ratio = statistics.median(turns.ratios)
    result = {"name": "throughput", "figure": round(ratio, 4), "goal": GOAL, "meets": ratio >= GOAL}
    print(json.dumps({**result, "ratio": round(ratio, 4), **turns.details(), "settings": vars(arguments)}))


if __name__ == "__main__":
    main()
