"""What travels in the kit for a machine with a card and without network."""

import importlib.util
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def kit():
    spec = importlib.util.spec_from_file_location("card_kit", ROOT / "tools" / "card_kit.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_there_already_and_torch_do_not_travel(kit):
    names = {line.partition("==")[0].lower() for line in kit.needed("3.12", ["NumPy==2.5.2", "scipy", ""])}
    assert "httpx" in names
    assert "torchsde" in names
    assert not names & {"numpy", "scipy", "torch", "torchvision", "comfyui-frontend-package", "mypy", "ruff"}


def test_versions_follow_the_python_over_there(kit):
    old, new = set(kit.needed("3.10", [])), set(kit.needed("3.12", []))
    assert any(line.startswith("exceptiongroup==") for line in old - new)


def test_only_what_runs_of_comfyui_is_packed(kit):
    def kept(name: str) -> bool:
        return kit._comfyui_member(tarfile.TarInfo(f"card-kit/comfyui/{name}")) is not None

    assert kept("main.py")
    assert kept("comfy/sd.py")
    assert not kept("models/checkpoints/own.safetensors")
    assert not kept("comfy/__pycache__/sd.pyc")


def test_a_kit_without_comfyui_is_refused_with_a_remedy(kit, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["card_kit.py", "--out", str(tmp_path / "kit"), "--comfyui", str(tmp_path)])
    with pytest.raises(SystemExit, match="update-runtime"):
        kit.main()
