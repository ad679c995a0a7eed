"""Renews the lock files: `tools/in-runtime python -m tools.lock [--upgrade]`.

pyproject.toml and worker/engine/lock/*.in say what is wanted; the .txt files beside them say in which version and with
which sha256 for every system and Python. Without --upgrade only what must change changes. Needs uv of the runtime.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from worker.engine.install import uv
from worker.engine.install.builds import TORCH, TORCHVISION
from worker.engine.install.layout import LOCKS, ROOT, Runtime

#: The oldest Python that the locks serve.
PYTHON = "3.10"
#: What belongs to torch, and differs with the build that a card needs.
OF_TORCH = re.compile(r"(torch|torchvision|triton|setuptools)$|nvidia-|cuda-")
HEAD = """\
# Every package with its version and its files' sha256, from {}.
# To renew: tools/in-runtime python -m tools.lock
"""


def compile_lock(*sources: Path | str, existing: Path, upgrade: bool, options: tuple[str, ...] = ()) -> str:
    """What uv resolves for all systems; versions stay as they are in `existing` where they may."""
    runtime = Runtime.locate().folder
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "lock.txt")
        if existing.exists() and not upgrade:
            output.write_text(existing.read_text(encoding="utf-8").replace("===", "=="), encoding="utf-8")
        command = [
            str(uv.program(runtime)), "pip", "compile", "--quiet", "--universal", "--python-version", PYTHON,
            "--generate-hashes", "--no-header", "--no-annotate", "--output-file", str(output), *options,
            *map(str, sources),
        ]  # fmt: skip
        # From PyPI alone: another index may have only the files for this machine.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
        environment |= {"UV_CACHE_DIR": str(runtime / "cache")}
        subprocess.run([*command, "--no-config"], check=True, cwd=ROOT, env=environment)
        return output.read_text(encoding="utf-8")


def blocks(lock: str) -> Iterator[tuple[str, str]]:
    """Each package's name with its lines."""
    for block in re.split(r"^(?=[a-zA-Z0-9])", lock, flags=re.MULTILINE):
        if found := re.match(r"([\w.-]+)==", block):
            yield found[1], block


def write(name: str, source: str, lock: str) -> None:
    exact = re.sub(r"^([\w.-]+)==", r"\1===", lock, flags=re.MULTILINE)
    (LOCKS / name).write_text(HEAD.format(source) + exact, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{name}: {sum(1 for _ in blocks(lock))} packages\n")


def main() -> None:
    options = argparse.ArgumentParser(prog="tools.lock", description=__doc__)
    options.add_argument("--upgrade", action="store_true", help="take the newest versions that are allowed")
    upgrade: bool = options.parse_args().upgrade
    project = ROOT / "pyproject.toml"
    dev = LOCKS / "worker-dev.txt"
    write(dev.name, "pyproject.toml", compile_lock(project, existing=dev, upgrade=upgrade, options=("--extra", "dev")))
    small = LOCKS / "worker.txt"
    text = compile_lock(project, existing=dev, upgrade=False, options=("--constraints", str(dev)))
    write(small.name, "pyproject.toml", text)
    with tempfile.TemporaryDirectory() as folder:
        torch = Path(folder, "torch.in")
        torch.write_text(f"torch=={TORCH}\ntorchvision=={TORCHVISION}\n", encoding="utf-8")
        before = Path(folder, "before.txt")
        names = ("torch.txt", "engine.txt")
        before.write_text("".join((LOCKS / name).read_text(encoding="utf-8") for name in names), encoding="utf-8")
        found = list(blocks(compile_lock(torch, LOCKS / "engine.in", existing=before, upgrade=upgrade)))
    write(names[0], "worker/engine/install/builds.py", "".join(text for name, text in found if OF_TORCH.match(name)))
    write(names[1], "engine.in", "".join(text for name, text in found if not OF_TORCH.match(name)))
    for name in ("pack", "safety"):
        lock = LOCKS / f"{name}.txt"
        others = ("--no-deps", "--constraints", str(LOCKS / "engine.txt"))
        write(
            lock.name, f"{name}.in", compile_lock(LOCKS / f"{name}.in", existing=lock, upgrade=upgrade, options=others)
        )


if __name__ == "__main__":
    main()
