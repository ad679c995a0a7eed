"""The worker of a bench as a process of its own: tiny models on the CPU, until SIGTERM."""

import argparse
from dataclasses import replace
from pathlib import Path

from worker import logs
from worker.demo.run import tiny_setup
from worker.demo.tiny.recipes import TINY_MODELS
from worker.engine.install import Runtime
from worker.engine.process import EngineSettings
from worker.lifecycle import run


def with_threads(settings: EngineSettings, threads: int) -> EngineSettings:
    """The same engine computing on so many threads; 0 leaves it to ComfyUI."""
    more = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}
    return replace(settings, environment={**settings.environment, **more})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--horde", required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=["Tiny SD1.5"])
    parser.add_argument("--engine-threads", type=int, default=0)
    arguments = parser.parse_args()
    logs.set_up(arguments.logs, console_level="WARNING")
    models = [model for model in TINY_MODELS if model.name in arguments.models]
    setup = tiny_setup(Runtime.locate(), f"{arguments.horde}/api", models, logs=arguments.logs)
    run(replace(setup, engines=[with_threads(engine, arguments.engine_threads) for engine in setup.engines]))


if __name__ == "__main__":
    main()
