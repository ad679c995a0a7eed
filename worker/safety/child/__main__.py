"""`python FOLDER --device cpu|cuda [--aesthetic FILE]`, by the engine's Python."""

import argparse
import runpy
from functools import partial
from pathlib import Path

import aesthetic
import image_checks
import service


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--aesthetic", type=Path, help="weights of the aesthetic estimator, there or to come")
    arguments = parser.parse_args()
    # By their paths: the engine's environment has no package `worker`.
    launch = Path(__file__).resolve().parents[2] / "engine" / "launch.py"
    runpy.run_path(str(launch))["kill_with_parent"]()
    logs = runpy.run_path(str(launch.with_name("child_log.py")))
    logs["stay_with_log"](2)
    logs["keep_trace"]()
    service.serve(partial(image_checks.build, arguments.device, aesthetic.Estimator(arguments.aesthetic)))


if __name__ == "__main__":
    main()
