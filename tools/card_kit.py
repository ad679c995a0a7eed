"""Pack the project for a machine without network that has Python and torch: one archive, one script to start.

    python tools/card_kit.py --out card-kit.tar.xz [--python 3.12] [--have PACKAGES.txt]

`--have` is what `python3 -m pip list --format=freeze` prints over there (names alone will do); those packages are
left out, and so is torch with what it brings. `python3 -m tarfile -e card-kit.tar.xz` unpacks the archive: the
project's tracked files, ComfyUI, wheels for Linux on x86-64, and `card.sh`, which sets up `runtime/` beside itself and
runs bench/card.py with the arguments it gets.
"""

import argparse
import contextlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from worker.engine.install.locks import read_lock

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "worker" / "engine" / "lock"
#: What the worker, the engine, its node pack and the safety child need travels whole; of the tests' lock, their own.
LOCK_FILES = ("engine.txt", "pack.txt", "safety.txt", "worker.txt")
TESTS_LOCK = "worker-dev.txt"
#: Beside the worker's own dependencies: the engine tests.
TEST_PACKAGES = ("pytest", "pytest-asyncio", "pytest-timeout", "numpy")
#: torch's own environment brings these, or nothing headless uses them; ComfyUI 0.3.75 goes without its database.
LEFT_OUT = re.compile(
    r"torch|torchvision|torchaudio|triton|nvidia-.*|comfyui-.*|hf-xet|sqlalchemy|alembic|mako|build|pip|setuptools|wheel"
)
#: Most that the packed kit may take.
LIMIT_BYTES = 60 * 10**6
#: Newest first; pip matches each literally.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17)] + ["manylinux2014_x86_64"]
#: Parts of the tree that only ComfyUI's own developers, its web page and families not measured need.
COMFYUI_LEFT_OUT = ("tests", "tests-unit", "web", ".github", "input", "output", "temp", "user", "models")
COMFYUI_FOLDERS_LEFT_OUT = frozenset({"__pycache__", "llama_tokenizer"})


def needed(python: str, have: Iterable[str]) -> list[str]:
    """The requirements `name==version` that have to travel, for a Python such as "3.12"."""
    there = {canonicalize_name(re.split(r"[=<> @]", line.strip())[0]) for line in have if line.strip()}
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    tests = _with_dependencies(TEST_PACKAGES)
    found: dict[str, str] = {}
    for lock in (*LOCK_FILES, TESTS_LOCK):
        for pin in read_lock(LOCKS / lock):
            wanted = lock != TESTS_LOCK or pin.name in tests
            fits = not pin.marker or Marker(pin.marker).evaluate(environment)
            if wanted and fits and pin.name not in there and not LEFT_OUT.fullmatch(pin.name):
                found.setdefault(pin.name, f"{pin.name}=={pin.version}")
    return sorted(found.values())


def _with_dependencies(names: Iterable[str]) -> set[str]:
    """These packages and all that they need, as they are installed beside this script."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        with contextlib.suppress(PackageNotFoundError):
            requirements = map(Requirement, distribution(name).requires or ())
            waiting += [canonicalize_name(each.name) for each in requirements if "extra" not in str(each.marker or "")]
    return found


def download(requirements: list[str], python: str, folder: Path) -> None:
    """Fetch the wheels. Raises SystemExit with pip's last lines where one is not to be had."""
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", *platforms, "--dest", str(folder), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode:
        raise SystemExit(f"pip could not fetch the wheels:\n{done.stderr[-2000:]}")


def pack(archive: Path, comfyui: Path, wheels: Path) -> None:
    """Write the archive; every member lies below `card-kit/`."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in filter(None, tracked.split("\0")):
            if (ROOT / name).exists() and not name.startswith("docs/"):
                tar.add(ROOT / name, f"card-kit/{name}")
        tar.add(comfyui, "card-kit/comfyui", filter=_comfyui_member)
        for wheel in sorted(wheels.glob("*.whl")):
            tar.add(wheel, f"card-kit/wheels/{wheel.name}")
        script = (ROOT / "tools" / "card_kit.sh").read_bytes()
        entry = tarfile.TarInfo("card-kit/card.sh")
        entry.size, entry.mode = len(script), 0o755
        tar.addfile(entry, io.BytesIO(script))


def _comfyui_member(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(member.name).parts[2:]
    left_out = parts and (parts[0] in COMFYUI_LEFT_OUT or COMFYUI_FOLDERS_LEFT_OUT.intersection(parts))
    return None if left_out else member


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default="3.12", help="version of the Python over there")
    parser.add_argument("--have", type=Path, help="packages that are there already, a name a line")
    parser.add_argument("--comfyui", type=Path, default=ROOT / "runtime" / "comfyui")
    arguments = parser.parse_args()
    if not (arguments.comfyui / "main.py").is_file():
        raise SystemExit(f"{arguments.comfyui} holds no ComfyUI. Run ./update-runtime.sh, or name one with --comfyui.")
    have = arguments.have.read_text().splitlines() if arguments.have else []
    requirements = needed(arguments.python, have)
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder)
        download(requirements, arguments.python, wheels)
        pack(arguments.out, arguments.comfyui.resolve(), wheels)
    size = arguments.out.stat().st_size
    sys.stdout.write(f"{arguments.out}: {size / 1e6:.1f} MB, {len(requirements)} wheels\n")
    if size > LIMIT_BYTES:
        raise SystemExit(f"That is more than {LIMIT_BYTES / 1e6:.0f} MB. Name with --have what is there already.")


if __name__ == "__main__":
    main()
