"""uv's cache in the runtime folder, kept to what an environment here still holds.

The files of what is installed cost nothing there, being the same (hard links); those of torch of a year ago are
gigabytes. `uv cache prune` alone lets them be, since they could be asked for again.
"""

import shutil
from pathlib import Path

from worker.engine.install import uv
from worker.engine.install.layout import LOCK_FILE, Runtime
from worker.engine.install.locks import normal
from worker.engine.install.plan import COMFYUI
from worker.engine.install.shell import Screen, Shell
from worker.errors import RuntimeMissing
from worker.process.file_lock import lock
from worker.whole_file import remove

#: Environments below the runtime's folder: the worker's and the engine's, and those of other ComfyUIs.
ENVIRONMENTS = ("*", "*/*/environment")
PACKAGES = ("lib/python*/site-packages", "Lib/site-packages")
#: The cache's entries, one a wheel, by index and name of the package.
WHEELS = ("wheels-v*/pypi/*", "wheels-v*/index/*/*")


def thin_out(shell: Shell) -> None:
    """Forget what no environment holds, and what an earlier uv left. A cache of the owner's own is not touched, and
    nothing that goes wrong here is a reason to stop: the set-up is complete.
    """
    runtime, folder = shell.folder, shell.folder / "cache"
    if Path(uv.environment(runtime, shell.environ)["UV_CACHE_DIR"]) != folder or not folder.is_dir():
        return
    held = installed(runtime)
    if not held:
        return
    held.add((normal(COMFYUI.name), COMFYUI.version))  # unpacked, and not installed anywhere
    try:
        entries = (entry for pattern in WHEELS for package in folder.glob(pattern) for entry in package.iterdir())
        forgotten = [entry for entry in entries if not _is_of(entry, held)]
        for entry in forgotten:
            remove(entry)  # of the index; what it leads to goes with `uv cache prune`
        old = [each for each in runtime.glob("uv-*") if each != uv.program(runtime).parent]
        for each in old:
            shutil.rmtree(each, ignore_errors=True)
        if forgotten or old:
            uv.run(shell, "cache", "prune", log="uv")
    except (OSError, RuntimeMissing) as error:
        shell.screen.say(f"NOTE: {folder} could not be thinned out, which costs disk alone: {error}")


def thin_out_after_removal(runtime: Runtime, screen: Screen) -> None:
    """The same once an environment is gone; where a set-up is under way, that one does it."""
    path = runtime.folder / LOCK_FILE
    if not path.is_file():
        return
    with path.open("r+b") as file:
        if lock(file.fileno()):
            thin_out(Shell(screen, runtime.folder, file.fileno()))


def installed(runtime: Path) -> set[tuple[str, str]]:
    """Name and version of every package in an environment of the runtime."""
    folders = (
        info.name.removesuffix(".dist-info")
        for place in ENVIRONMENTS
        for packages in PACKAGES
        for info in runtime.glob(f"{place}/{packages}/*.dist-info")
    )
    return {(normal(name), version) for name, _, version in (folder.rpartition("-") for folder in folders)}


def _is_of(entry: Path, held: set[tuple[str, str]]) -> bool:
    """Whether an entry, `NAME/VERSION-TAGS`, is of a package among these."""
    return (normal(entry.parent.name), entry.name.partition("-")[0]) in held
