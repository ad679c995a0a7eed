"""Where everything lies: the folder `runtime`, and what an owner put in the place of its parts."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.engine.install.machine import Accelerator
from worker.engine.install.record import Record
from worker.owner_path import owner_path

#: The repository, or the folder of packages that `worker` is installed in.
ROOT = Path(__file__).resolve().parents[3]
STATE_FILE = "state.json"
#: Held by the set-up that is at work.
LOCK_FILE = ".lock"
LOCKS = Path(__file__).resolve().parents[1] / "lock"


def is_checkout(root: Path) -> bool:
    """Whether `root` is a repository. Of an installed wheel only the package is there, in an environment of its own."""
    return (root / "pyproject.toml").is_file()


def default_runtime_folder(root: Path) -> Path:
    """`runtime` in the repository; for an installed wheel a folder that goes away with its environment."""
    return root / "runtime" if is_checkout(root) else Path(sys.prefix) / "horde-bridge"


def runtime_folder(root: Path, environ: Mapping[str, str]) -> Path:
    """`AIWORKER_RUNTIME_DIR`, else the default."""
    elsewhere = environ.get("AIWORKER_RUNTIME_DIR", "").strip()
    if not elsewhere:
        return default_runtime_folder(root)
    folder = owner_path(elsewhere).absolute()
    # By one name, whatever links lead there: environments are made anew for another place. On Windows this could turn
    # a drive's letter into a server's name; a link that leads nowhere is told as that.
    return folder.resolve() if os.name == "posix" and folder.exists() else folder


def environment_python(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages_folder(environment: Path, python_version: str) -> Path:
    """Where a virtual environment keeps its packages."""
    if os.name == "nt":
        return environment / "Lib" / "site-packages"
    return environment / "lib" / f"python{python_version}" / "site-packages"


@dataclass(frozen=True)
class Runtime:
    """What the rest of the worker needs to know. Paths only: `check` tells whether anything is there.

    `comfyui` and `engine_python` are the owner's where `--comfyui` and `--comfyui-python` said so. `accelerator` is
    what the engine's torch was installed for; None before the first set-up.
    """

    root: Path
    folder: Path
    worker_python: Path
    engine_python: Path
    comfyui: Path
    accelerator: Accelerator | None

    @classmethod
    def locate(cls, root: Path = ROOT, environ: Mapping[str, str] | None = None) -> "Runtime":
        folder = runtime_folder(root, os.environ if environ is None else environ)
        return cls.of(root, folder, Record.load(folder / STATE_FILE))

    @classmethod
    def of(cls, root: Path, folder: Path, record: Record) -> "Runtime":
        own = record.choices
        return cls(
            root=root,
            folder=folder,
            worker_python=environment_python(folder / "worker") if is_checkout(root) else Path(sys.executable),
            engine_python=Path(own.comfyui_python) if own.comfyui_python else environment_python(folder / "engine"),
            comfyui=Path(own.comfyui) if own.comfyui else folder / "comfyui",
            accelerator=record.accelerator,
        )

    @property
    def state(self) -> Path:
        return self.folder / STATE_FILE

    @property
    def users(self) -> Path:
        """Where workers that run with these environments say so."""
        return self.folder / "running"
