"""Make generated models, with the engine's Python: `python build.py --comfyui TREE --out FOLDER [name ...]`.

Names are those of recipes.TINY_FILES, with `--full-size` those of FULL_SIZE_FILES; none means all. One JSON line per
file tells how it went, or why it is left out. A file that is whole and of the present recipe is kept, so an
interrupted build is finished by the next one.
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent

if not __package__:
    # Run by path, from an environment that has none of the worker's packages: load this folder alone as a package.
    __package__ = "tiny_models"
    _spec = importlib.util.spec_from_file_location(
        __package__, HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    sys.modules[__package__] = importlib.util.module_from_spec(_spec)
    sys.path.remove(str(HERE))

from .engine_tree import copy_engine_tree  # noqa: E402 - the package must be known first
from .recipes import FULL_SIZE_FILES, MODEL_FOLDERS, TINY_FILES, TinyFile, engine_tree, models_folder  # noqa: E402 - the same

#: Where stamps of finished files are, below the models folder.
STAMPS = ".tiny"
#: How long to wait for another build in the same folder. A whole one takes half a minute.
LONGEST_BUILD_S = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI tree, which stays as it is")
    parser.add_argument("--out", type=Path, required=True, help="folder for `comfyui` and `models`")
    parser.add_argument("--full-size", action="store_true", help="models of the published sizes, for that very tree")
    parser.add_argument(
        "--tree-only",
        action="store_true",
        help="no models: the tree that loads those of another ComfyUI, with what changes fit it; others are told",
    )
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join((*TINY_FILES, *FULL_SIZE_FILES)))
    options = parser.parse_args()
    known = FULL_SIZE_FILES if options.full_size else TINY_FILES
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"unknown name: {', '.join(unknown)}")
    if not (options.comfyui / "comfyui_version.py").is_file():
        parser.error(f"no ComfyUI tree at {options.comfyui}")
    files = [] if options.tree_only else [known[name] for name in options.names or known]
    comfyui, out = options.comfyui.resolve(), options.out.resolve()
    try:
        tree = comfyui if options.full_size else engine_tree(out)
        build(comfyui, out, files, tree=tree, as_far_as_possible=options.tree_only)
    except ValueError as error:
        sys.exit(f"{parser.prog}: {error}")


def build(comfyui: Path, out: Path, files: list[TinyFile], tree: Path, *, as_far_as_possible: bool = False) -> None:
    """Make the folders, `files`, and the `tree` that loads them unless it is `comfyui`; whole files are kept.

    `as_far_as_possible`: numbers that this ComfyUI has in no known place stay as they are, and that is told.
    """
    models = models_folder(out)
    for folder in (*MODEL_FOLDERS, STAMPS):
        (models / folder).mkdir(parents=True, exist_ok=True)
    # Held until this process ends, however it ends.
    lock = (models / STAMPS / "lock").open("a")
    _wait_for(lock)
    if tree != comfyui:
        for change in copy_engine_tree(comfyui, tree, as_far_as_possible=as_far_as_possible):
            print(json.dumps({"unchanged": change}), flush=True)
    wanted = [file for file in files if not (_left_out(file, tree) or _is_whole(file, models, tree))]
    if wanted:
        _import_engine(tree)
    for file in files:
        if reason := _left_out(file, tree):
            print(json.dumps({"name": file.name, "left_out": reason}), flush=True)
            continue
        started = time.monotonic()
        if file in wanted:
            _make(file, models, tree)
        report = {
            "name": file.name,
            "path": str(models / file.path),
            "seconds": round(time.monotonic() - started, 2),
            "bytes": (models / file.path).stat().st_size,
        }
        print(json.dumps(report), flush=True)


def _left_out(file: TinyFile, tree: Path) -> str:
    """Why the file can't be made here; "" where it can."""
    if file.needs and importlib.util.find_spec(file.needs) is None:
        return f"{file.needs} is not installed"
    if file.engine_file and not (tree / file.engine_file).is_file():
        return f"this ComfyUI has no {file.engine_file}"
    return ""


def _wait_for(lock: IO[str]) -> None:
    """Have the lock to ourselves. Exits when another build has held it for LONGEST_BUILD_S."""
    deadline = time.monotonic() + LONGEST_BUILD_S
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            sys.exit(f"Another build has been at work for {LONGEST_BUILD_S} s: {lock.name}")
        time.sleep(0.2)


def _try_lock(lock: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _make(file: TinyFile, models: Path, tree: Path) -> None:
    from .weights import save

    recipe = getattr(importlib.import_module(f".{file.made_by}", __package__), file.recipe or file.name)
    save(recipe(), models / file.path)
    stamp = {"recipe": _digest(file, tree), "bytes": (models / file.path).stat().st_size}
    _stamp(file, models).write_text(json.dumps(stamp))


def _is_whole(file: TinyFile, models: Path, tree: Path) -> bool:
    try:
        stamp = json.loads(_stamp(file, models).read_text())
        return stamp == {"recipe": _digest(file, tree), "bytes": (models / file.path).stat().st_size}
    except (OSError, ValueError):
        return False


def _stamp(file: TinyFile, models: Path) -> Path:
    return models / STAMPS / f"{file.name}.json"


def _digest(file: TinyFile, tree: Path) -> str:
    """Of all that decides on the file's content: which file it is, our sources, ComfyUI."""
    sources = [path.read_bytes() for path in sorted(HERE.glob("*.py")) if path.name not in ("build.py", "recipes.py")]
    version = (tree / "comfyui_version.py").read_bytes()
    return hashlib.sha256(b"\0".join([repr(file).encode(), version, *sources])).hexdigest()


def _import_engine(tree: Path) -> None:
    """Make `comfy` importable from the tree, on the CPU whatever the machine has."""
    sys.path.insert(0, str(tree))
    from comfy.cli_args import args

    args.cpu = True


if __name__ == "__main__":
    main()
