"""Where engines come from: folders, repositories and archives; nothing else, and no more than a ComfyUI has."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from worker.engine.versions import sources, tree
from worker.engine.versions.sources import Source, archive_url, fetch, read_source
from worker.errors import EngineChangeRefused
from worker.untrusted.archives import ArchiveBounds

from .fake_trees import fake_tree

GITHUB = "https://github.com/comfyanonymous/ComfyUI"


def quietly(_: str) -> None:
    """Progress that nobody reads."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{GITHUB}.git@v0.33.0", Source(url=f"{GITHUB}.git", ref="v0.33.0")),
        (f"{GITHUB}@783545f6", Source(url=GITHUB, ref="783545f6")),
        (f"{GITHUB}@feature/some-branch", Source(url=GITHUB, ref="feature/some-branch")),
        (
            "https://me:secret@host.example/a/b.git@main",
            Source(url="https://me:secret@host.example/a/b.git", ref="main"),
        ),
        (f"{GITHUB}/archive/v1.zip", Source(url=f"{GITHUB}/archive/v1.zip")),
        ("https://host.example/comfy.TAR.GZ?x=1", Source(url="https://host.example/comfy.TAR.GZ?x=1")),
    ],
)
def test_an_address_is_read(text: str, expected: Source) -> None:
    assert read_source(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "http://github.com/a/b@v1", "ssh://git@host/a/b@v1", "git@github.com:a/b.git@v1", "file:///etc@v1", GITHUB,
        f"{GITHUB}@", f"{GITHUB}@--upload-pack=x", f"{GITHUB}@a b", f"{GITHUB}@../x", "https://@v1", "https:///x@v1",
        "ext::sh -c x@v1", "/nowhere/at/all", "git://host/a@v1",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_may_be_written(text: str) -> None:
    with pytest.raises(EngineChangeRefused) as refused:
        read_source(text)
    assert "URL" in refused.value.remedy or "https://" in refused.value.remedy


def test_passwords_are_not_told() -> None:
    assert "secret" not in read_source("https://me:secret@host.example/a.git@main").spelled
    with pytest.raises(EngineChangeRefused) as refused:
        read_source("ssh://me:secret@host.example/a@v1")
    assert "secret" not in str(refused.value)


def test_a_folder_without_comfyui_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    with pytest.raises(EngineChangeRefused, match=r"nodes\.py"):
        read_source(str(tmp_path))


def test_a_name_is_suggested(tmp_path: Path) -> None:
    folder = fake_tree(tmp_path / "my comfy", "0.44.1")
    assert read_source(str(folder)).suggested_name == "0.44.1"
    (folder / "comfyui_version.py").unlink()
    assert read_source(str(folder)).suggested_name == "my-comfy"
    assert read_source(f"{GITHUB}@feature/new").suggested_name == "new"
    assert read_source(f"{GITHUB}/archive/v0.33.0.tar.gz").suggested_name == "v0.33.0"
    assert read_source("https://host.example/.zip").suggested_name == "engine"


def test_of_a_folder_the_code_is_taken_and_the_owners_data_stays(tmp_path: Path) -> None:
    folder = fake_tree(tmp_path / "own")
    for name in ("models/checkpoints/big.safetensors", "output/a.png", "user/comfyui.db", ".git/config",
                 "custom_nodes/somebodys/__init__.py", "custom_nodes/websocket_image_save.py",
                 "comfy/__pycache__/x.pyc", "comfy/sd.py", "venv/bin/python"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "huge").touch()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")

    fetch(read_source(str(folder)), tmp_path / "copy", tmp_path / "scratch", quietly)

    found = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert {"main.py", "comfy/sd.py", "custom_nodes/websocket_image_save.py"} <= found
    assert not [name for name in found if name.startswith(("models", "output", "user", ".git", "venv", "linked"))]
    assert not [name for name in found if "somebodys" in name or "__pycache__" in name]
    assert (folder / "models/checkpoints/big.safetensors").exists()


def test_a_folder_of_somebodys_models_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_tree(tmp_path / "own")
    (folder / "weights.bin").write_bytes(bytes(5000))
    monkeypatch.setattr(sources, "TREE_BOUNDS", ArchiveBounds(files=100, total_bytes=4000))
    with pytest.raises(EngineChangeRefused, match="more than"):
        fetch(read_source(str(folder)), tmp_path / "copy", tmp_path / "scratch", quietly)


def test_without_git_github_gives_an_archive_and_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert archive_url(read_source(f"{GITHUB}.git@v0.33.0")) == f"{GITHUB}/archive/v0.33.0.zip"
    with pytest.raises(EngineChangeRefused, match="git is not installed"):
        archive_url(read_source("https://gitlab.example/a/b.git@v1"))


def test_a_repository_is_fetched_by_tag_branch_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shutil.which("git")
    repository = fake_tree(tmp_path / "repository", "7.7")

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        done = subprocess.run(
            ["git", *identity, "-C", str(repository), *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet", "-b", "main")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    git("add", "-A")
    git("commit", "--quiet", "-m", "one")
    git("tag", "v7.7")
    monkeypatch.setattr(sources, "SCHEMES", {"https", "file"})

    for ref in ("v7.7", "main", git("rev-parse", "HEAD")):
        place = tmp_path / f"tree-{ref}"
        fetch(Source(url=f"file://{repository}", ref=ref), place, tmp_path / "scratch", quietly)
        assert tree.version_of(place) == "7.7"
        assert not (place / ".git").exists()
    with pytest.raises(EngineChangeRefused, match="git can't fetch"):
        fetch(Source(url=f"file://{repository}", ref="v9"), tmp_path / "other", tmp_path / "scratch", quietly)


def test_git_follows_no_other_protocol(tmp_path: Path) -> None:
    fake_tree(tmp_path / "repository")
    with pytest.raises(EngineChangeRefused, match="not allowed"):
        fetch(Source(url=f"file://{tmp_path}/repository", ref="v1"), tmp_path / "x", tmp_path / "scratch", quietly)


def test_an_archive_that_holds_no_comfyui_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("readme.txt", "nothing")
    (tmp_path / "tree").mkdir()
    sources.unpack(archive, tmp_path / "tree", tree.TREE_BOUNDS)
    assert tree.missing_in(tmp_path / "tree") == list(tree.LANDMARKS)


@pytest.mark.parametrize(
    ("text", "version"),
    [('__version__ = "0.3.75"\n', "0.3.75"), ("# x\n__version__='0.44'", "0.44"), ("__version__ = 1", ""), ("", ""),
     (f'__version__ = "{"9" * 99}"', ""), ('__version__ = "<script>"', "")],
)  # fmt: skip
def test_a_version_is_read_without_running_the_tree(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "comfyui_version.py").write_text(text, encoding="utf-8")
    assert tree.version_of(tmp_path) == version
    assert tree.version_of(tmp_path / "gone") == ""
