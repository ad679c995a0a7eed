"""The models folder that `cache_home` leads to."""

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

from worker.config.schema import BridgeData

#: A models folder contains both.
MARKS = ("compvis", "clip")
#: What a set-up leaves in the runtime's folder, in which the demo has models of its own.
RUNTIME_MARKS = (".lock", "state.json")
#: Search depth below cache_home.
MAX_DEPTH = 5
#: Folders searched at most, because cache_home may be the root of a disk by mistake.
MAX_FOLDERS = 5_000


def models_root(data: BridgeData, environment: Mapping[str, str]) -> Path:
    """The first folder at or below `cache_home` with both compvis and clip; else `cache_home`, which may not exist.

    The search is breadth first and by name.
    """
    home = cache_home(data, environment)
    return next((folder for folder in _folders(home) if all((folder / mark).is_dir() for mark in MARKS)), home)


def cache_home(data: BridgeData, environment: Mapping[str, str]) -> Path:
    """`cache_home` as a path, with `~` and `$NAME` replaced; the first of several folders separated by semicolons."""
    written = data.cache_home.split(";")[0].strip()
    home = Path(Template(written).safe_substitute(environment))
    if home.parts[:1] == ("~",):
        own = environment.get("HOME") or environment.get("USERPROFILE")
        home = Path(own, *home.parts[1:]) if own else home
    return home.absolute()


def _folders(root: Path) -> Iterator[Path]:
    """`root` and the folders below it, breadth first, each once, within the limits; no hidden ones and no runtime."""
    queue = deque([(root, 0)])
    seen: set[Path] = set()
    while queue and len(seen) < MAX_FOLDERS:
        folder, depth = queue.popleft()
        try:
            real = folder.resolve()
            if real in seen:  # a link back
                continue
            seen.add(real)
            yield folder
            inner = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
        except OSError:  # deleted or not readable
            continue
        is_runtime = all((folder / mark).is_file() for mark in RUNTIME_MARKS)
        if depth < MAX_DEPTH and not is_runtime:
            queue += [(path, depth + 1) for path in inner]
