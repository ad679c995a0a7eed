"""Where the models are: the folder that `cache_home` stands for."""

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

from worker.config.schema import BridgeData

#: A models folder holds both.
MARKS = ("compvis", "clip")
#: How far below cache_home it may be.
MAX_DEPTH = 5
#: Folders looked into at most: cache_home may be the root of a disk by mistake.
MAX_FOLDERS = 5_000


def models_root(data: BridgeData, environment: Mapping[str, str]) -> Path:
    """The first folder, breadth first and by name, at or below `cache_home` that holds both compvis and clip; else
    `cache_home` itself, which need not exist.
    """
    home = cache_home(data, environment)
    return next((folder for folder in _folders(home) if all((folder / mark).is_dir() for mark in MARKS)), home)


def cache_home(data: BridgeData, environment: Mapping[str, str]) -> Path:
    """`cache_home` as a path. `~` and `$NAME` in it are filled in from the environment; of several folders between
    semicolons the first counts.
    """
    written = data.cache_home.split(";")[0].strip()
    home = Path(Template(written).safe_substitute(environment))
    if home.parts[:1] == ("~",):
        own = environment.get("HOME") or environment.get("USERPROFILE")
        home = Path(own, *home.parts[1:]) if own else home
    return home.absolute()


def _folders(root: Path) -> Iterator[Path]:
    """`root` and what is below it, breadth first, hidden folders left out, each once, within the bounds."""
    queue = deque([(root, 0)])
    seen: set[Path] = set()
    while queue and len(seen) < MAX_FOLDERS:
        folder, depth = queue.popleft()
        try:
            real = folder.resolve()
            if real in seen:  # a link to where we have been
                continue
            seen.add(real)
            yield folder
            inner = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
        except OSError:  # gone, or not ours to read: nothing to find there
            continue
        if depth < MAX_DEPTH:
            queue += [(path, depth + 1) for path in inner]
