"""The Python that runs another ComfyUI in tests: `python -m tests.engine.environment PATH` makes it and prints it."""

import hashlib
import sys
from pathlib import Path

from worker.engine.install.environments import make_engine_environment
from worker.engine.install.layout import Runtime
from worker.engine.install.shell import Screen
from worker.engine.versions.shelf import Shelf
from worker.engine.versions.sources import fetch, read_source
from worker.errors import WorkerError


def python_for(tree: Path) -> Path:
    """The interpreter of an environment for the requirements of `tree`, of an earlier run if they are the same."""
    runtime, source = Runtime.locate(), read_source(str(tree))
    shelf, screen = Shelf(runtime), Screen()
    name = f"test-{hashlib.sha256((tree / 'requirements.txt').read_bytes()).hexdigest()[:12]}"
    found = shelf.find(name)
    if found is None:

        def make(folder: Path) -> None:
            fetch(source, folder / "comfyui", folder / "scratch", screen.say)
            make_engine_environment(folder / "comfyui", folder / "environment", screen=screen)

        found = shelf.add(name, source.spelled, make)
    return found.python


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{python_for(Path(sys.argv[1]).absolute())}\n")
    except WorkerError as error:
        sys.exit(f"{error}")
