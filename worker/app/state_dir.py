"""The folders a worker writes to, and the locks that allow only one worker of a name on a machine."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from worker.errors import ConfigError
from worker.logs import io_reason
from worker.owner_path import owner_path
from worker.process.file_lock import lock, open_to_lock

#: Names a folder for what workers keep between two runs, in place of the runtime's own.
VARIABLE = "AIWORKER_STATE_DIR"
LOG_LOCK = ".lock"
HOME_LOCK = "worker.lock"
#: Characters of a lock file that are read to tell who holds it.
_LONGEST_HOLDER = 100


def workers_folder(runtime: Path, environment: Mapping[str, str]) -> Path:
    """Where the folders of all workers of this installation are; need not exist."""
    elsewhere = environment.get(VARIABLE, "").strip()
    return owner_path(elsewhere).absolute() if elsewhere else runtime / "workers"


def worker_folder(runtime: Path, environment: Mapping[str, str], *, name: str, horde_url: str) -> Path:
    """Where the worker of this name on this Horde keeps its journal and its engines' files; need not exist."""
    base = workers_folder(runtime, environment)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "worker"
    return base / f"{readable}-{_digest(name, horde_url)}"


def engines_folder(home: Path) -> Path:
    """Where the engines of the worker with this folder keep their files."""
    return home / "engines"


@contextmanager
def only_one(name: str, horde_url: str, *, home: Path, folder: Path | None = None) -> Iterator[None]:
    """Holds the machine's lock on this name, and that on the worker's folder `home`. Raises ConfigError while another
    process holds one of them.

    The system gives a lock up when the process ends, however it ends; the file stays, for removing it would let
    two workers lock two files of one name. The machine's lies in the folder for temporary files, which all
    installations share, unless somebody has another TMPDIR. `home` is another's then all the same, whose engines
    would be ended as orphans and whose jobs reported as lost.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"horde-bridge-{_digest(name, horde_url)}.lock"
    with contextlib.ExitStack() as held:
        try:
            descriptor = _open(path)
            held.callback(os.close, descriptor)
        except OSError as error:
            raise ConfigError(
                f"{path} can't be opened: {error.strerror}.", remedy="Remove it, or set TMPDIR."
            ) from error
        _claim(descriptor, name, "on this machine")
        # A folder that can't be written, or has no locks, is not refused for that.
        with contextlib.suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            descriptor = _open(home / HOME_LOCK)
            held.callback(os.close, descriptor)
            _claim(descriptor, name, f"in {home}")
        yield


def _claim(descriptor: int, name: str, where: str) -> None:
    if not lock(descriptor):
        raise ConfigError(
            f"A worker named {name!r} runs {where} already{_holder(descriptor)}.",
            remedy="Stop it, or give this one another name (dreamer_name, or -n NAME).",
        )
    _sign(descriptor)


def claim_log_folder(folder: Path, name: str) -> Path:
    """`folder` if no other worker writes its logs there, else a folder below it that has the worker's name.

    The claim lasts until the process ends. Raises ConfigError when the folder cannot be used.
    """
    try:
        descriptor = open_to_lock(folder / LOG_LOCK)
        if lock(descriptor):
            return folder
        os.close(descriptor)
        own = folder / (re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "worker")
        own.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The log folder {folder.absolute()} cannot be used: {io_reason(error)}.",
            remedy="Check its permissions, start from a folder of yours, or start with --no-logging.",
        ) from error
    return own


def _digest(name: str, horde_url: str) -> str:
    return hashlib.sha256(f"{name}\n{horde_url.rstrip('/')}".encode()).hexdigest()[:12]


def _open(path: Path) -> int:
    """Never through a link that someone else has put there. Another user's file can be locked, though not signed."""
    secure = getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | secure, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY | secure)


def _sign(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}".encode())
    except OSError:
        return  # another user's file: the lock holds without a name on it


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, _LONGEST_HOLDER).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return f" (process {text})" if text.isdecimal() else ""
