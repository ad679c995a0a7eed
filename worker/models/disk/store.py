"""The model files on this machine: which are present, whole and the right ones, and where the engine finds them.

The worker's own tree has reGen's layout and is the only one written to. Further trees (another worker's, a ComfyUI or
A1111 installation, a folder of checkpoints) are only read. Files are searched in ComfyUI's order, and the first of a
name counts, because ComfyUI would load that one. Only `verify` computes checksums.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from worker.bounded_dict import BoundedDict
from worker.errors import ConfigError
from worker.models.catalog.records import ModelFile, ModelRecord, Purpose
from worker.models.disk.checksums import HashStore
from worker.models.disk.contents import Contents, checkpoint_damage, read_contents
from worker.models.disk.folder_layouts import (
    KEY_OF_FOLDER,
    KEY_OF_PURPOSE,
    LAYOUTS,
    Layout,
    ModelTree,
    detect,
)
from worker.units import free_bytes
from worker.workflows.request import ServedModel

#: Files whose header is remembered.
MAX_CONTENTS: Final = 10_000
#: Added to the name of a broken file, so that ComfyUI does not list it.
BROKEN_SUFFIX: Final = ".broken"


@dataclass(frozen=True)
class FoundFile:
    """A file on disk. `listed` is its name in ComfyUI's list, "" in a folder that ComfyUI does not list."""

    path: Path
    listed: str


@dataclass(frozen=True)
class MissingFile:
    """A file that a model needs and can't use. `path` is the unusable one on disk, if any."""

    file: ModelFile
    reason: str
    path: Path | None = None


class Store:
    """The owner's model folders. Call `refresh` after other programs may have added files."""

    def __init__(self, root: Path, extra: Iterable[Path] = (), custom: Iterable[ModelRecord] = ()) -> None:
        self.root = root.absolute()
        self.trees = (ModelTree(self.root, Layout.HORDE, writable=True), *(detect(path.absolute()) for path in extra))
        self.hashes = HashStore(self.root)
        self._loose = _loose_folders(custom)
        self._names: dict[Path, Mapping[str, Path]] = {}
        self._contents: BoundedDict[tuple[Path, int, int], Contents] = BoundedDict(MAX_CONTENTS)

    def refresh(self) -> None:
        """Forget the listings of the read-only trees."""
        self._names.clear()

    def target(self, file: ModelFile) -> Path:
        """The path for this file in the worker's own tree. Raises ConfigError for an owner's own file."""
        if file.path is not None:
            raise ConfigError(
                f"{file.path} is your own file and can't be fetched.", remedy="Put it there, or correct custom_models."
            )
        return self.root / file.folder / file.name

    def find(self, file: ModelFile) -> FoundFile | None:
        """The file that ComfyUI would load for this one, without a look at its content."""
        key = KEY_OF_PURPOSE.get(file.purpose) or KEY_OF_FOLDER.get(file.folder, "")
        if file.path is not None:
            return FoundFile(file.path, file.path.name) if file.path.is_file() else None
        for tree in self.trees:
            for folder in tree.folders(key):
                if name := self._name_in(folder, file, exact=tree.layout is Layout.HORDE):
                    return FoundFile(folder / name, str(name))
        path = self.root / file.folder / file.name
        return FoundFile(path, "") if path.is_file() else None

    def check(self, file: ModelFile) -> MissingFile | None:
        """Why this file can't be used: absent, unlisted, damaged, outdated, hidden. None when it can."""
        found = self.find(file)
        if found is None:
            where = file.path or self.root / file.folder / file.name
            return MissingFile(file, f"{where} does not exist")
        if not found.listed and file.purpose is not Purpose.AUXILIARY:
            return MissingFile(file, f"{found.path} lies where ComfyUI looks for no {file.purpose.value}", found.path)
        if damage := self.contents(found.path).damage:
            return MissingFile(file, f"{found.path}: {damage}", found.path)
        known = self.hashes.known(found.path) if file.sha256 else None
        if known and known != file.sha256:
            return MissingFile(file, f"{found.path} is another version (sha256 {known[:12]}…)", found.path)
        if file.path is not None and (other := self._hides(file, file.path)):
            return MissingFile(file, f"{file.path} is hidden by {other}: rename one of them", found.path)
        return None

    def listed(self, file: ModelFile) -> str | None:
        """A usable file's name as ComfyUI lists it, or the usual one where ComfyUI lists none; None for no file."""
        found = self.find(file)
        return None if found is None or self.check(file) else found.listed or file.name

    def served(self, record: ModelRecord) -> ServedModel | tuple[MissingFile, ...]:
        """The model for the engine, or every file that is missing. Raises ValueError for an unknown family."""
        if record.family is None:
            raise ValueError(f"{record.name} is of the unknown baseline {record.baseline!r}")
        if missing := self.missing(record):
            return missing
        files = {file.purpose.value: found.listed for file in record.files if (found := self.find(file))}
        return ServedModel(record.name, record.family, files, inpainting=record.inpainting)

    def missing(self, record: ModelRecord) -> tuple[MissingFile, ...]:
        """Every file of the record that can't be used. Reads headers of new files, so call it in a thread."""
        missing = tuple(found for file in record.files if (found := self.check(file)))
        return missing or self._misfits(record)

    def is_complete(self, record: ModelRecord) -> bool:
        """Whether all of its files are on disk and look whole. Reads headers of new files, so call it in a thread."""
        return not self.missing(record)

    def verify(self, record: ModelRecord, *, fresh: bool = False) -> tuple[MissingFile, ...]:
        """`missing`, after comparing checksums, computed where unknown or if `fresh`. Takes minutes."""
        bad: list[MissingFile] = []
        for file in record.files:
            found = self.find(file)
            if found and file.sha256:
                if fresh:
                    self.hashes.forget(found.path)
                self.hashes.compute(found.path)
            if lack := self.check(file):
                bad.append(lack)
        return tuple(bad)

    def quarantine(self, path: Path) -> Path:
        """Rename a broken file; returns its new path. Raises ConfigError outside the own tree."""
        if not path.absolute().is_relative_to(self.root):
            raise ConfigError(
                f"{path} is broken and in a folder that is only read.", remedy="Replace it, or remove it there."
            )
        aside = path.with_name(path.name + BROKEN_SUFFIX)
        path.replace(aside)
        self.hashes.forget(path)
        logger.bind(action="model_file_set_aside").warning("{} is broken and was renamed {}", path, aside.name)
        return aside

    def free_bytes(self) -> int:
        """Free bytes of the own tree's disk."""
        return free_bytes(self.root)

    def model_paths(self) -> dict[str, dict[str, str]]:
        """All folders, as in ComfyUI's extra_model_paths.yaml: section → folder kind → one path per line."""
        sections: dict[str, dict[str, str]] = {}
        for number, tree in enumerate(self.trees):
            keys = {key: tree.folders(key) for key in LAYOUTS[tree.layout]}
            # A folder of the own tree may be made by the first download; ComfyUI lists folders again for each prompt.
            present = {k: [str(f) for f in folders if tree.writable or f.is_dir()] for k, folders in keys.items()}
            name = f"{tree.layout.value}_{number}" if number else "worker"
            sections[name] = {key: "\n".join(folders) for key, folders in present.items() if folders}
        if self._loose:
            sections["custom"] = {key: "\n".join(map(str, folders)) for key, folders in self._loose.items()}
        return {name: section for name, section in sections.items() if section}

    def contents(self, path: Path) -> Contents:
        """What the file holds, read once as long as it does not change. Takes up to a second: call it in a thread."""
        try:
            stat = path.stat()
        except OSError as error:
            return Contents(f"it can't be read: {error.strerror or error}")
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._contents:
            self._contents[key] = read_contents(path)
        return self._contents[key]

    def _misfits(self, record: ModelRecord) -> tuple[MissingFile, ...]:
        """The checkpoint that is not what the record says. One with a checksum of the reference is taken as it is."""
        if record.family is None or len(record.files) != 1:
            return ()
        file = record.files[0]
        found = self.find(file) if file.purpose is Purpose.CHECKPOINT and not file.sha256 else None
        damage = checkpoint_damage(self.contents(found.path), record.family) if found else ""
        return (MissingFile(file, f"{found.path}: {damage}", found.path),) if found and damage else ()

    def _name_in(self, folder: Path, file: ModelFile, *, exact: bool) -> Path | None:
        name = Path(file.name)
        if (folder / name).is_file():
            return name
        # A name with a folder is not told by its last part: diffusion_pytorch_model.safetensors may be anything.
        return None if exact or name.parent.name else self._names_below(folder).get(name.name)

    def _names_below(self, folder: Path) -> Mapping[str, Path]:
        """File name → path below a folder; users of other programs sort their files into sub-folders."""
        if folder not in self._names:
            names: dict[str, Path] = {}
            for parent, folders, files in os.walk(folder, followlinks=True):
                folders[:] = sorted(name for name in folders if name != ".git")
                for name in files:
                    names.setdefault(name, (Path(parent) / name).relative_to(folder))
            self._names[folder] = names
        return self._names[folder]

    def _hides(self, file: ModelFile, path: Path) -> Path | None:
        """The file that ComfyUI would load instead of an owner's own of the same name."""
        key = KEY_OF_PURPOSE[file.purpose]
        folders = [folder for tree in self.trees for folder in tree.folders(key)] + list(self._loose.get(key, ()))
        first = next((folder / path.name for folder in folders if (folder / path.name).is_file()), path)
        return None if first.samefile(path) else first


def _loose_folders(records: Iterable[ModelRecord]) -> Mapping[str, tuple[Path, ...]]:
    """Folders of custom models' files, by ComfyUI's key, each once."""
    folders: dict[str, dict[Path, None]] = {}
    for record in records:
        for file in record.files:
            if file.path is not None:
                folders.setdefault(KEY_OF_PURPOSE[file.purpose], {})[file.path.parent] = None
    return {key: tuple(paths) for key, paths in folders.items()}
