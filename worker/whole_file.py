"""Files that are written whole or not at all: who reads meanwhile, or after a crash, finds the old or the new content.

The standard library alone, since the installation writes its record before anything is installed.
"""

import contextlib
import os
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
