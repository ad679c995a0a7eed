"""Generated models as a worker sees its models: built on first use, described as the model reference describes them."""

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.aio import timeout
from worker.app.state_dir import VARIABLE
from worker.demo.tiny.recipes import TINY_MODELS, TinyModel, build_command, engine_tree, models_folder
from worker.engine.install.layout import Runtime
from worker.engine.install.remedies import remedy_of, remedy_of_end
from worker.engine.versions.shelf import Engine
from worker.engine.versions.state import INSTALLED
from worker.errors import RuntimeMissing
from worker.models.catalog.records import Category, ModelRecord
from worker.models.catalog.schemas import read_records
from worker.owner_path import owner_path
from worker.process.child import child_environment, end_child

#: Building everything takes a minute; a machine that is much slower than that has another trouble.
BUILD_TIMEOUT_S = 1200.0


@dataclass(frozen=True)
class GeneratedModels:
    """A folder of generated models and the ComfyUI that loads them."""

    folder: Path
    comfyui: Path
    full_size: bool

    @classmethod
    def of(cls, runtime: Runtime, *, full_size: bool = False) -> "GeneratedModels":
        if full_size:
            return cls(full_size_folder(runtime), runtime.comfyui, full_size=True)
        return cls(tiny_folder(runtime), engine_tree(tiny_folder(runtime)), full_size=False)


def tiny_folder(runtime: Runtime) -> Path:
    """Where the tiny models and the engine tree that can load them are kept."""
    return _generated_root(runtime) / "tiny"


def engines_folder(runtime: Runtime) -> Path:
    """Where engines with generated models keep their files."""
    return _generated_root(runtime) / "engines"


def full_size_folder(runtime: Runtime) -> Path:
    """Where models of the published sizes are kept; ComfyUI itself loads them."""
    return _generated_root(runtime) / "full-size"


def _generated_root(runtime: Runtime) -> Path:
    """The runtime's folder; where that is read-only, as in a container, the folder for what workers keep."""
    elsewhere = os.environ.get(VARIABLE, "").strip()
    if not elsewhere or os.access(runtime.folder, os.W_OK):
        return runtime.folder
    return owner_path(elsewhere).absolute() / "generated"


async def build(
    runtime: Runtime, files: Collection[str], *, tell: Callable[[str], None], full_size: bool = False
) -> None:
    """Make what is missing, with the engine's own Python; tells each line it says, one for each file.

    Raises RuntimeMissing with what the builder said when it fails, or when it hangs.
    """
    folder = full_size_folder(runtime) if full_size else tiny_folder(runtime)
    await _run(build_command(runtime.engine_python, runtime.comfyui, folder, sorted(files), full_size=full_size), tell)


async def loading_tree(runtime: Runtime, engine: Engine) -> tuple[Path, list[str]]:
    """The tree of an engine that loads the tiny models, which the installed one has made; it is made where missing.

    Also returns what of it keeps its real size because this ComfyUI has it in no known place. Raises RuntimeMissing.
    """
    if engine.name == INSTALLED:
        return engine_tree(tiny_folder(runtime)), []
    out = engine.comfyui.with_name("tiny")
    unchanged: list[str] = []

    def note(line: str) -> None:
        if line.startswith('{"unchanged":'):
            unchanged.append(line)

    await _run(build_command(engine.python, engine.comfyui, out, tree_only=True), note)
    return engine_tree(out), unchanged


async def _run(command: Sequence[str], tell: Callable[[str], None]) -> None:
    """Run the builder. Raises RuntimeMissing with what it said when it fails, or when it hangs."""
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        env=child_environment({}),
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    errors = asyncio.ensure_future(child.stderr.read())
    try:
        async with timeout(BUILD_TIMEOUT_S):
            async for line in child.stdout:
                tell(line.decode(errors="replace").rstrip())
            code = await child.wait()
            said = (await errors).decode(errors="replace").strip()
    except TimeoutError as error:
        raise RuntimeMissing(
            f"The tiny models were not built within {BUILD_TIMEOUT_S:.0f} s.", remedy="See what keeps the machine busy."
        ) from error
    finally:
        errors.cancel()
        if child.returncode is None:
            await end_child(child, timeout_s=0, name="builder of tiny models")
    if code:
        lines = said.splitlines() or [f"exit {code}"]
        raise RuntimeMissing(
            f"The tiny models could not be built: {lines[-1]}",
            remedy=remedy_of(lines) or remedy_of_end(code) or "Run update-runtime, then try again.",
        )


def records(models: Collection[TinyModel] = TINY_MODELS) -> list[ModelRecord]:
    """The tiny models, read the way the real reference is read."""
    reference = {
        model.name: {
            "name": model.name,
            "baseline": model.baseline,
            "type": "ckpt",
            "inpainting": model.inpainting,
            "nsfw": False,
            "config": {
                "files": [
                    {"path": file.file_name, "directory": f"../{file.folder}", "file_type": file.purpose.value}
                    for file in model.files
                ]
            },
        }
        for model in models
    }
    return list(read_records(reference, Category.IMAGE).records.values())


__all__ = ["GeneratedModels", "build", "engine_tree", "loading_tree", "models_folder", "records", "tiny_folder"]
