"""What of a folder of horde-worker-reGen is of use here, and what taking it over means. Looks only; nothing is changed.

Settings are copied, models are used where they are: what belongs to the other worker stays as it is.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from worker.config.load import FILE_NAME, check_text, read_text
from worker.config.paths import cache_home, models_root
from worker.config.write_back import with_changes
from worker.errors import ConfigError
from worker.units import counted

#: Where reGen keeps its models when the settings name no folder.
MODELS = "models"
DOTENV = ".env"
#: Folders of models -> what an owner calls one of their content. Other files in them (sums, beginnings) are no models.
KINDS = MappingProxyType(
    {"compvis": "image model", "lora": "LoRA", "ti": "textual inversion", "controlnet": "ControlNet"}
)
SUFFIXES = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin"})


@dataclass(frozen=True)
class Takeover:
    """The settings' new text, the folder of models, and whether there is a .env to copy."""

    text: str
    changes: Mapping[str, Any]
    models: Path
    contents: Mapping[str, int]
    models_bytes: int
    dotenv: Path | None
    running: int | None


def plan_takeover(folder: Path) -> Takeover:
    """What taking `folder` over means. Raises ConfigError where it holds no settings that can be read."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder.", remedy="Name the folder that holds reGen's bridgeData.yaml.")
    file = folder / FILE_NAME
    if not file.is_file():
        raise ConfigError(
            f"{folder} holds no {FILE_NAME}.", remedy="Name the folder that reGen is started from, with its settings."
        )
    before = read_text(file)
    data = check_text(before, str(file))
    home = _models(folder, data.cache_home, os.environ)
    # Where this worker would look for them: the first folder below that has the layout.
    models = models_root(data.model_copy(update={"cache_home": str(home)}), os.environ)
    if models == folder.absolute():
        models /= MODELS
    changes: dict[str, Any] = {"cache_home": str(models)}
    custom = [entry.model_dump(mode="json") for entry in data.custom_models]
    absolute = [{**entry, "filepath": str(_from(folder, str(entry["filepath"])))} for entry in custom]
    if absolute != custom:
        changes["custom_models"] = absolute
    text = with_changes(before, changes, str(file))
    check_text(text, str(file))
    contents, size = _contents(models)
    dotenv = folder / DOTENV
    return Takeover(text, changes, models, contents, size, dotenv if dotenv.is_file() else None, _running_in(folder))


def described(plan: Takeover, folder: Path, here: Path) -> list[str]:
    """What will be done and what will not, a line each."""
    found = ", ".join(counted(number, KINDS[name]) for name, number in plan.contents.items() if number)
    target = here / FILE_NAME
    lines = [
        f"Copy {folder / FILE_NAME} to {target}" + (", which is kept as it is beside it." if target.exists() else "."),
        f"In the copy, set cache_home to {plan.models}: {found or 'no models yet'}"
        + (f", {plan.models_bytes / 1e9:.1f} GB" if found else "")
        + ", used where they are.",
    ]
    if "custom_models" in plan.changes:
        lines.append("In the copy, write the files of custom_models as full paths.")
    if plan.dotenv:
        there = (here / DOTENV).exists()
        lines.append(
            f"Leave {here / DOTENV} as it is; {plan.dotenv} is not copied." if there
            else f"Copy {plan.dotenv} to {here / DOTENV}."
        )  # fmt: skip
    lines.append(f"Nothing in {folder} is moved, changed or deleted; its conda folder and logs are of no use here.")
    if plan.running is not None:
        lines.append(f"reGen runs there now (process {plan.running}): stop it before you start this worker.")
    return lines


def _models(folder: Path, written: str, environment: Mapping[str, str]) -> Path:
    """The folder of models as reGen understands its setting: from its own folder."""
    first = written.split(";", maxsplit=1)[0].strip()
    if not first:
        return (folder / MODELS).absolute()
    relative = not Path(first).is_absolute() and not first.startswith(("~", "$", "%"))
    if relative:
        return _from(folder, first)
    return cache_home(check_text(f"cache_home: {first!r}\n", FILE_NAME), environment)


def _from(folder: Path, path: str) -> Path:
    """`path` as it is meant by a program that runs in `folder`."""
    return Path(os.path.normpath(folder.absolute() / path))


def _contents(models: Path) -> tuple[dict[str, int], int]:
    """How many models of each kind there are, and their bytes."""
    numbers: dict[str, int] = {}
    size = 0
    for name in KINDS:
        files = [file for file in (models / name).glob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
        numbers[name] = len(files)
        size += sum(file.stat().st_size for file in files)
    return numbers, size


def _running_in(folder: Path) -> int | None:
    """The process of a reGen that runs in `folder`."""
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(folder.resolve()) and any(word.endswith("run_worker.py") for word in words):
            return int(process.info["pid"])
    return None
