"""Files and folders that are put in place whole or not at all: who looks meanwhile, or after a crash, finds the old or
the new content.

The standard library alone, since the installation writes its record before anything is installed.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(
    file: Path,
    content: str | bytes,
    *,
    mode: int | None = None,
    exchange: Callable[[Path, Path], object] = Path.replace,
) -> None:
    """Replace the file in one step; its folder is made where there is none. Texts are written in UTF-8.

    Only the file's owner may read it, from its first byte on, or else whom `mode` allows when it is whole. `exchange`
    puts the draft in the file's place. Raises OSError.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            draft.chmod(mode)
        exchange(draft, file)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, or a file or link, where there is one. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=ignore_errors)
    else:
        path.unlink(missing_ok=True)


def move_whole(old: Path, new: Path) -> None:
    """Give a file or folder another name, where nothing lies yet. Raises OSError.

    In a container a folder that came with its image can't be renamed (EXDEV, on one disk): it is copied, and stands at
    its new place whole before anything of the old one goes.
    """
    try:
        old.rename(new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        draft = new.with_name(f".{new.name}.copy")
        if draft.is_dir():
            shutil.rmtree(draft)  # of a run that was killed
        if old.is_dir() and not old.is_symlink():
            shutil.copytree(old, draft, symlinks=True)
            draft.rename(new)
            shutil.rmtree(old)
        else:
            shutil.copy2(old, draft, follow_symlinks=False)
            draft.replace(new)
            old.unlink()
