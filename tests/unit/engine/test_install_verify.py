"""An installation against its locks: packages by version, files by size and sum."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from worker.engine.install import verify
from worker.engine.install.layout import Runtime, packages_folder
from worker.engine.install.machine import Accelerator
from worker.engine.install.record import Choices, Part, PartRecord, Record
from worker.engine.install.verify import differences

VERSION = "3.11"
RECORD = Record(
    accelerator=Accelerator.CPU,
    python_version=VERSION,
    parts={part: PartRecord(ready=True, made_from={}) for part in (Part.WORKER, Part.ENGINE)},
)
Told = Callable[..., list[str]]


def install(runtime: Runtime, part: Part, name: str, version: str, files: dict[str, bytes]) -> Path:
    folder = packages_folder(runtime.folder / part.value, VERSION)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    rows = [f"{info.name}/RECORD,,", "../../../bin/tool,sha256=x,1", f"{name}/__pycache__/a.pyc,,"]
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    locks = tmp_path / "lock"
    locks.mkdir()
    pins = {"worker.txt": "httpx===1", "engine.txt": "numpy===2", "torch.txt": "torch===3\nnvidia-nccl===4"}
    for name in ("worker.txt", "torch.txt", "engine.txt", "pack.txt", "safety.txt"):
        text = "".join(f"{pin} \\\n    --hash=sha256:{'0' * 64}\n" for pin in pins.get(name, "").split("\n") if pin)
        (locks / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(verify, "LOCKS", locks)
    monkeypatch.setattr("worker.engine.install.plan.LOCKS", locks)
    found = Runtime.locate(environ={"AIWORKER_RUNTIME_DIR": str(tmp_path / "runtime")})
    install(found, Part.WORKER, "httpx", "1", {"httpx/a.py": b"a"})
    install(found, Part.ENGINE, "numpy", "2", {"numpy/core.so": b"library", "numpy/a.py": b"code"})
    install(found, Part.ENGINE, "torch", "3+cu130", {"torch/lib.so": b"torch"})
    return found


@pytest.fixture
def told(runtime: Runtime) -> Told:
    def tell(record: Record = RECORD, *, thorough: bool = False) -> list[str]:
        return [str(difference) for difference in differences(runtime, record, thorough=thorough)]

    return tell


def test_an_installation_that_is_as_its_locks_say_gives_no_difference(told: Told) -> None:
    assert told() == []
    assert told(thorough=True) == []


def test_another_version_and_a_package_of_no_lock_are_named(runtime: Runtime, told: Told) -> None:
    install(runtime, Part.WORKER, "Evil_Thing", "6", {})
    install(runtime, Part.ENGINE, "numpy", "1", {})
    assert told() == [
        "worker: evil-thing 6 is in no lock",
        "engine: numpy 1 is not what the lock names (2)",
    ]


def test_a_library_that_a_virus_scanner_took_or_cut_is_seen_at_once(runtime: Runtime, told: Told) -> None:
    folder = packages_folder(runtime.folder / "engine", VERSION)
    (folder / "torch/lib.so").unlink()
    (folder / "numpy/core.so").write_bytes(b"lib")
    assert told() == [
        "engine: numpy has a changed file: numpy/core.so (3 bytes instead of 7)",
        "engine: torch lacks a file: torch/lib.so",
    ]


def test_a_file_of_the_same_size_with_other_content_is_seen_by_the_thorough_look(runtime: Runtime, told: Told) -> None:
    (packages_folder(runtime.folder / "engine", VERSION) / "numpy/a.py").write_bytes(b"evil")
    assert told() == []
    assert told(thorough=True) == ["engine: numpy has a changed file: numpy/a.py"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_lost_list_of_files_is_a_difference(runtime: Runtime, told: Told, content: bytes | None) -> None:
    record = packages_folder(runtime.folder / "worker", VERSION) / "httpx-1.dist-info" / "RECORD"
    record.unlink() if content is None else record.write_bytes(content)
    assert told() == ["worker: httpx has lost its list of files"]


def test_what_another_build_of_torch_brings_is_no_difference(runtime: Runtime, told: Told) -> None:
    for name in ("nvidia_cublas_cu12", "pytorch_triton_rocm", "torch_directml"):
        install(runtime, Part.ENGINE, name, "9", {})
    assert told() == []


def test_the_owners_own_python_is_none_of_our_business_nor_another_comfyuis_versions(
    runtime: Runtime, told: Told
) -> None:
    install(runtime, Part.ENGINE, "numpy", "1", {})
    assert told(replace(RECORD, choices=Choices(comfyui="/own"))) == []
    assert told(replace(RECORD, choices=Choices(comfyui="/own", comfyui_python="/own/python"))) == []


def test_a_part_that_is_not_ready_is_not_looked_at(runtime: Runtime, told: Told) -> None:
    install(runtime, Part.ENGINE, "numpy", "1", {})
    assert told(RECORD.with_part(Part.ENGINE, PartRecord(ready=False, made_from={}))) == []


def test_what_the_running_environment_lacks_is_named_be_it_a_library_or_an_emptied_module(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(runtime, Part.WORKER, "PyYAML", "6.0", {"yaml/__init__.py": b"text", "yaml/empty.py": b""})
    install(runtime, Part.WORKER, "pydantic_core", "2.0", {"pydantic_core/core.so": b"library"})
    monkeypatch.setattr(verify.sysconfig, "get_path", lambda _: str(folder))
    assert verify.damaged_packages() == []
    (folder / "yaml" / "__init__.py").write_bytes(b"")
    (folder / "pydantic_core" / "core.so").unlink()
    assert verify.damaged_packages() == [
        "pydantic-core lacks a file: pydantic_core/core.so",
        "pyyaml has a changed file: yaml/__init__.py (0 bytes instead of 4)",
    ]
