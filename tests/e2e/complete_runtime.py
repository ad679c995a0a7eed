"""A runtime that costs nothing to set up, for tests of what starts a worker."""

import os
import site
import sys
import venv
from pathlib import Path

from worker.demo.engine import FOLDER as SCRIPTED_ENGINE
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.install.plan import ingredients
from worker.engine.install.record import Choices, PartRecord, Record


def make_runtime(folder: Path, root: Path, on_start: str = "") -> Path:
    """A runtime that the set-up calls complete: an environment with this one's packages and the code of `root`.

    `on_start`: what every worker that is started there runs first.
    """
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    builder.create(folder / "worker")
    [packages] = (folder / "worker").glob("lib/python*/site-packages")
    paths = [str(root), *site.getsitepackages()]
    only = "'worker.cli' in sys.orig_argv and sys.orig_argv[-1] != '--help'"
    start = f"import sys; exec('import on_start' if {only} else '')"
    (packages / "fixture.pth").write_text("\n".join([*paths, start]) + "\n")
    (packages / "on_start.py").write_text(on_start)
    choices = Choices(comfyui=str(SCRIPTED_ENGINE), comfyui_python=sys.executable)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    record = Record(choices=choices, accelerator=Accelerator.CPU, python=sys.executable, python_version=python)
    runtime = Runtime.of(root, folder, record)
    wanted = ingredients(runtime, record)
    for part, made_from in wanted.items():
        record = record.with_part(part, PartRecord(ready=True, made_from=made_from))
    record.save(runtime.state)
    return folder
