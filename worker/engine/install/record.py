"""state.json: what the owner chose, what is made, and from what. Written whole, after each part.

A part that is being made is recorded as not ready first: so an interruption at any point shows.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from worker.engine.install.machine import Accelerator
from worker.errors import RuntimeMissing
from worker.whole_file import write_whole

FORMAT = 1


class Part(str, Enum):
    """What the runtime consists of, in the order of making."""

    WORKER = "worker"
    COMFYUI = "comfyui"
    ENGINE = "engine"


@dataclass(frozen=True)
class Choices:
    """What the owner asked for, now or in an earlier run. None: the worker decides."""

    accelerator: Accelerator | None = None
    torch_index: str | None = None
    comfyui: str | None = None
    comfyui_git: str | None = None
    comfyui_python: str | None = None
    dev: bool = False


@dataclass(frozen=True)
class PartRecord:
    """How a part was made. `packages` are the names of the .dist-info folders that the installation left."""

    ready: bool
    made_from: Mapping[str, str]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """All that is known of a runtime folder. `python` is the interpreter the environments come from."""

    choices: Choices = Choices()
    accelerator: Accelerator | None = None
    python: str | None = None
    python_version: str | None = None
    parts: Mapping[Part, PartRecord] = field(default_factory=dict)

    def with_part(self, part: Part, record: PartRecord) -> "Record":
        return dataclasses.replace(self, parts={**self.parts, part: record})

    @classmethod
    def load(cls, path: Path) -> "Record":
        """What the file says. One that is absent or makes no sense is an empty record: everything is made anew.

        Raises RuntimeMissing for one that this user may not read, which may say that all is well.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls._read(found) if found["format"] == FORMAT else cls()
        except PermissionError as error:
            raise RuntimeMissing(
                f"{path} can't be read: it belongs to another user, as after a set-up by sudo.",
                remedy=f"Give the folder to who runs the worker: sudo chown -R USER {shlex.quote(str(path.parent))}",
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    @classmethod
    def _read(cls, found: Mapping[str, Any]) -> "Record":
        choices = dict(found["choices"])
        chosen = choices.pop("accelerator")
        return cls(
            choices=Choices(accelerator=Accelerator(chosen) if chosen else None, **choices),
            accelerator=Accelerator(found["accelerator"]) if found["accelerator"] else None,
            python=found["python"],
            python_version=found["python_version"],
            parts={
                Part(name): PartRecord(part["ready"] is True, dict(part["made_from"]), tuple(part["packages"]))
                for name, part in found["parts"].items()
            },
        )

    def save(self, path: Path) -> None:
        """Write atomically. Only the owner may read it if the URL of an index holds a password; else everybody may, as
        with all that is installed: images are made by root and run by others.
        """
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"
        write_whole(path, text, mode=None if re.search(r"://[^/@\s]+@", text) else 0o644)
