"""Whether the environments hold what the locks say, and their files are the ones that were installed.

Two questions: is each package one that a lock names, in its version; and is each of its files as its wheel noted it in
RECORD, which was itself checked by the lock's sha256 when it was installed. The quick look is at the sizes of programs
and libraries, which virus scanners take away; the thorough one at the sha256 of every file.
"""

import base64
import csv
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.engine.install.layout import LOCKS, Runtime, packages_folder
from worker.engine.install.locks import normal, read_lock
from worker.engine.install.plan import ENGINE_LOCKS, worker_lock
from worker.engine.install.record import Part, Record
from worker.file_facts import sha256_of

#: Packages that other builds of torch bring along, in versions of theirs.
OF_TORCH = re.compile(r"torch|torchvision|torch-directml|torchaudio|nvidia-.*|cuda-.*|triton|pytorch-triton.*")
#: Files that Python or a package writes or changes after the installation.
CHANGES = re.compile(r"\.pyc$|(^|/)(INSTALLER|REQUESTED|RECORD|direct_url\.json)$|^\.\./")
LIBRARIES = frozenset({".so", ".dll", ".pyd", ".exe", ".dylib"})


@dataclass(frozen=True)
class Difference:
    """What differs: a package of a part, and how."""

    part: Part
    package: str
    what: str

    def __str__(self) -> str:
        return f"{self.part.value}: {self.package} {self.what}"


def differences(runtime: Runtime, record: Record, *, thorough: bool) -> Iterator[Difference]:
    """All differences in the environments that are ours; none for a part that the owner put there or nobody made."""
    version = record.python_version or ""
    for part, locks in _locks_of(record).items():
        made = record.parts.get(part)
        if made is None or not made.ready:
            continue
        folder = packages_folder(runtime.folder / part.value, version)
        pinned = [pin for lock in locks for pin in read_lock(lock)]
        pins = {pin.name: pin.version for pin in pinned}
        several = {(pin.name, pin.version) for pin in pinned}
        own = bool(record.choices.comfyui or record.choices.comfyui_git)
        for info in sorted(folder.glob("*.dist-info")):
            name, _, found = info.name.removesuffix(".dist-info").rpartition("-")
            package = normal(name)
            foreign = part is Part.ENGINE and (own or OF_TORCH.fullmatch(package))
            if not foreign and (package, found) not in several:
                wanted = pins.get(package)
                yield Difference(
                    part, f"{package} {found}", f"is not what the lock names ({wanted})" if wanted else "is in no lock"
                )
            yield from (Difference(part, package, what) for what in _damage(folder, info, thorough=thorough))


def damaged_packages() -> list[str]:
    """Packages of the environment that runs this which lack files or have cut ones: a phrase each."""
    folder = Path(sysconfig.get_path("purelib"))
    found = ((info, list(_damage(folder, info, thorough=False, every=True))) for info in folder.glob("*.dist-info"))
    return sorted(f"{normal(info.name.partition('-')[0])} {what[0]}" for info, what in found if what)


def _locks_of(record: Record) -> dict[Part, list[Path]]:
    locks = {Part.WORKER: [worker_lock(dev=record.choices.dev)]}
    if not record.choices.comfyui_python:
        locks[Part.ENGINE] = [LOCKS / name for name in ENGINE_LOCKS]
    return locks


def _damage(folder: Path, info: Path, *, thorough: bool, every: bool = False) -> Iterator[str]:
    """Files of a package that are absent, or not as they were installed. `every`: not only programs and libraries."""
    try:
        rows = list(csv.reader((info / "RECORD").read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error):
        yield "has lost its list of files"
        return
    for row in rows:
        if len(row) != 3 or not row[1] or CHANGES.search(row[0]):  # noqa: PLR2004 - path, hash, size
            continue
        path, digest, size = folder / row[0], row[1], row[2]
        if not (thorough or every) and path.suffix not in LIBRARIES:
            continue
        try:
            bytes_now = path.stat().st_size
            if size.isdigit() and bytes_now != int(size):
                yield f"has a changed file: {row[0]} ({bytes_now} bytes instead of {size})"
            elif thorough and digest.startswith("sha256=") and _sha256(path) != digest.removeprefix("sha256="):
                yield f"has a changed file: {row[0]}"
        except OSError:
            yield f"lacks a file: {row[0]}"


def _sha256(path: Path) -> str:
    return base64.urlsafe_b64encode(sha256_of(path)).rstrip(b"=").decode()
