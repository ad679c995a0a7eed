"""Folders that a runtime had better not lie in, and why. `concerns` is pure."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

#: The longest path of a file below the folder of the runtime; measured, uv's cache included: 160.
LONGEST_WITHIN = 165
#: Windows' limit for a path while long paths are not turned on, its end mark left out.
WINDOWS_PATH_MAX = 259
#: Folders that a program keeps in step with a server, by a part of their name.
SYNCHRONISED = ("onedrive", "dropbox", "google drive", "googledrive", "icloud", "nextcloud")

#: Where uvx and `pipx run` keep environments until they make room: uv's by its buckets, wherever its cache is.
PASSING = re.compile(
    r"[\\/](?:(?:archive|environments|builds)-v\d+|pipx[\\/]\.?cache|\.cache[\\/]pipx)[\\/]", re.IGNORECASE
)


def concerns_here(folder: Path) -> list[str]:
    """What speaks against a folder of this machine."""
    windows = sys.platform == "win32"
    return list(concerns(str(folder), windows=windows, long_paths=_long_paths(), wsl=_is_wsl()))


def _long_paths() -> bool:
    """Whether paths of more than 260 characters are allowed, as everywhere but on Windows."""
    if sys.platform != "win32":
        return True
    import winreg  # noqa: PLC0415 - only there

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def _is_wsl() -> bool:
    """Whether this is a Linux that runs within Windows."""
    try:
        return "microsoft" in Path("/proc/version").read_text(encoding="ascii", errors="replace").lower()
    except OSError:
        return False


def synchronised(folder: str) -> str | None:
    """The program that keeps a folder in step with a server, by its name in the path."""
    parts = re.split(r"[\\/]", folder.lower())
    return next((name for name in SYNCHRONISED if any(name in part for part in parts)), None)


def concerns(folder: str, *, windows: bool, long_paths: bool, wsl: bool) -> Iterator[str]:
    """A sentence for each reason against `folder`. `long_paths`: Windows allows them. `wsl`: Linux within Windows."""
    if (found := synchronised(folder)) is not None:
        yield f"The folder is within {found}, which would upload gigabytes and lock files in use: move it elsewhere."
    if PASSING.search(folder):
        yield (
            "The folder is within the cache of uvx or pipx; when that is cleaned, or with the next version, gigabytes "
            "have to be fetched again: use `uv tool install` or `pipx install`, or set AIWORKER_RUNTIME_DIR elsewhere."
        )
    if windows and not long_paths and len(folder) + LONGEST_WITHIN > WINDOWS_PATH_MAX:
        yield (
            f"The folder's path has {len(folder)} characters, and Windows allows "
            f"{WINDOWS_PATH_MAX - LONGEST_WITHIN} here: "
            "move it to a shorter one, such as C:\\horde, or turn on long paths (docs/install-windows.md)."
        )
    if windows and folder.startswith("\\\\"):
        yield "The folder is on a network drive, where locks work badly: move it to a disk of this machine."
    if wsl and re.match(r"/mnt/[a-z]/", folder):
        yield "The folder is on a disk of Windows, ten times slower from within WSL: move it below your home in Linux."
