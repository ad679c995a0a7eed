"""Reads both schemas of the model reference into records. Pure.

The legacy schema lists local files (`config.files`) and their addresses (`config.download`) separately; the newer
service joins both in `config.download`. An entry that can't be read does not affect the others.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose, family_of, place
from worker.workflows.families import TRAITS
from worker.workflows.types import Family

#: File roles of both schemas.
PURPOSES: Final[Mapping[str, Purpose]] = {
    "checkpoint": Purpose.CHECKPOINT,
    "unet": Purpose.UNET,
    "diffusion_models": Purpose.UNET,
    "text_encoder": Purpose.TEXT_ENCODER,
    "text_encoders": Purpose.TEXT_ENCODER,
    "text_encoder_2": Purpose.TEXT_ENCODER_2,
    "vae": Purpose.VAE,
    "stage_b": Purpose.STAGE_B,
    "stage_c": Purpose.STAGE_C,
    "stable_cascade_stage_b": Purpose.STAGE_B,
    "stable_cascade_stage_c": Purpose.STAGE_C,
}
#: Purposes of which a file's name may tell.
STAGES: Final = (Purpose.STAGE_B, Purpose.STAGE_C)
#: Role in the newer service → folder; files of other roles are in their category's folder.
SERVICE_FOLDERS: Final[Mapping[str, str]] = {
    "vae": "vae",
    "text_encoder": "text_encoders",
    "text_encoders": "text_encoders",
    "text_encoder_2": "text_encoders",
    "face_restore_helper": "gfpgan",
}
#: Model configs of the first Stable Diffusion code: listed in the reference, not used.
UNUSED_SUFFIXES: Final = (".yaml", ".yml")


_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RecordList:
    """One category. `problems`: a sentence for each entry that can't be used."""

    records: Mapping[str, ModelRecord]
    problems: tuple[str, ...] = ()


def read_sha256(value: Any) -> str | None:
    """A checksum in lower case; None for anything else, such as the reference's "FIXME"."""
    folded = value.strip().casefold() if isinstance(value, str) else ""
    return folded if _SHA256.fullmatch(folded) else None


def read_records(data: Any, category: Category) -> RecordList:
    """Read one category of either schema. An entry that can't be read is left out and named in `problems`.

    Raises ValueError when the data is no list of models.
    """
    if isinstance(data, list) and not data:
        return RecordList({})
    if not isinstance(data, dict):
        raise ValueError(f"the {category.value} reference is no JSON object")  # noqa: TRY004 - bad data, not a bad call
    records: dict[str, ModelRecord] = {}
    problems: list[str] = []
    for name, entry in data.items():
        try:
            records[name] = _read_record(str(name), entry, category)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            problems.append(f"{category.value}: {name}: {error}")
    return RecordList(records, tuple(problems))


def _read_record(name: str, entry: Mapping[str, Any], category: Category) -> ModelRecord:
    config = entry.get("config") or {}
    files = _legacy_files(config, category) if "files" in config else _service_files(config, category)
    if not files:
        raise ValueError("it lists no files")
    baseline = str(entry.get("baseline") or "")
    family = family_of(baseline) if baseline else None
    return ModelRecord(
        name=name,
        category=category,
        files=assign_purposes(files, category, family),
        baseline=baseline,
        family=family,
        nsfw=bool(entry.get("nsfw")),
        inpainting=bool(entry.get("inpainting")),
        size_on_disk=_read_size(entry.get("size_on_disk_bytes")),
        style=str(entry.get("style") or ""),
        tags=tuple(str(item) for item in entry.get("tags") or ()),
    )


#: The role as the reference writes it ("" if it does not), and the file.
RawFile = tuple[str, ModelFile]


def _legacy_files(config: Mapping[str, Any], category: Category) -> list[RawFile]:
    downloads = config.get("download") or []
    urls = {place(category.folder, str(d.get("file_path") or ""), d["file_name"]): d.get("file_url") for d in downloads}
    files: list[RawFile] = []
    for entry in config["files"]:
        path = str(entry["path"])
        if path.endswith(UNUSED_SUFFIXES):
            continue
        folder, name = place(category.folder, str(entry.get("directory") or ""), path)
        files.append((str(entry.get("file_type") or ""), _file(folder, name, entry, urls.get((folder, name)))))
    return files


def _service_files(config: Mapping[str, Any], category: Category) -> list[RawFile]:
    files: list[RawFile] = []
    for entry in config.get("download") or []:
        role = str(entry.get("file_purpose") or "")
        folder, name = place(SERVICE_FOLDERS.get(role, category.folder), str(entry["file_name"]))
        if name.endswith(UNUSED_SUFFIXES):
            continue
        file = _file(folder, name, entry, entry.get("file_url"))
        files.append((role, replace(file, size=_read_size(entry.get("size_bytes")))))
    return files


def _file(folder: str, name: str, entry: Mapping[str, Any], url: Any) -> ModelFile:
    return ModelFile(Purpose.AUXILIARY, name, folder, read_sha256(entry.get("sha256sum")), _read_url(url))


def _read_size(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _read_url(value: Any) -> str | None:
    if not value:
        return None
    if not isinstance(value, str) or not value.casefold().startswith(("https://", "http://")):
        raise ValueError("its download address is not http(s)")
    return value


def assign_purposes(
    files: Iterable[RawFile], category: Category, family: Family | None = None
) -> tuple[ModelFile, ...]:
    """Give each file its purpose: by its role, else by its folder, else what the other files leave open.

    Raises ValueError when two files would have the same purpose.
    """
    listed = list(files)
    if category is not Category.IMAGE:
        return tuple(file for _, file in listed)
    known: list[tuple[Purpose | None, ModelFile]] = [
        (PURPOSES.get(role) or PURPOSES.get(file.folder) or _stage(file.name, family), file) for role, file in listed
    ]
    is_split = any(purpose in {Purpose.VAE, Purpose.TEXT_ENCODER} for purpose, _ in known)
    left = Purpose.UNET if is_split else Purpose.CHECKPOINT
    result: dict[Purpose, ModelFile] = {}
    for purpose, file in known:
        chosen = purpose or left
        if chosen is Purpose.TEXT_ENCODER and chosen in result:
            chosen = Purpose.TEXT_ENCODER_2
        if chosen in result:
            raise ValueError(f"it has two files for {chosen.value}")
        result[chosen] = replace(file, purpose=chosen)
    return tuple(result.values())


def _stage(name: str, family: Family | None) -> Purpose | None:
    """For families of several diffusion models, whose files are called after what they are."""
    if family is None:
        return None
    purposes = {purpose for whole in TRAITS[family].files for purpose in whole}
    folded = name.casefold()
    return next((stage for stage in STAGES if stage.value in purposes and stage.value in folded), None)
