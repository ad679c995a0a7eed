"""`python FOLDER --device cpu|cuda`, by the engine's Python."""

import argparse
import runpy
from functools import partial
from pathlib import Path

import image_checks
import service


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    # By its path: the engine's environment has no package `worker`.
    launch = Path(__file__).resolve().parents[2] / "engine" / "launch.py"
    runpy.run_path(str(launch))["kill_with_parent"]()
    runpy.run_path(str(launch.with_name("trace_log.py")))["keep_trace"]()
    service.serve(partial(image_checks.build, device))


if __name__ == "__main__":
    main()
