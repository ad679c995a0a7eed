"""The worker of a bench as a process of its own: tiny models on the CPU, until SIGTERM."""

import argparse
from pathlib import Path

from worker import logs
from worker.app import run
from worker.demo.run import tiny_setup
from worker.demo.tiny.recipes import TINY_MODELS
from worker.engine.install import Runtime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--horde", required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=["Tiny SD1.5"])
    arguments = parser.parse_args()
    logs.set_up(arguments.logs, console_level="WARNING")
    models = [model for model in TINY_MODELS if model.name in arguments.models]
    run(tiny_setup(Runtime.locate(), f"{arguments.horde}/api", models, logs=arguments.logs))


if __name__ == "__main__":
    main()
