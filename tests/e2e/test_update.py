"""`update` in a folder as it comes out of an archive, and in a clone; releases given out by a server of our own."""

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.complete_runtime import make_runtime
from tests.preloaded import preloaded
from worker import __version__

ROOT = Path(__file__).resolve().parents[2]
#: What the worker needs to run, and what launchers need.
PARTS = (
    "worker", "comfy_workflows", "containers", "pyproject.toml", "bridgeData_template.yaml", "CHANGELOG.md", "LICENSE",
    "README.md", "horde-bridge.sh", "horde-bridge.cmd", "update-runtime.sh", "update-runtime.cmd",
)  # fmt: skip
NEWER = "99.0.0"


@dataclass
class Forge:
    """Gives out files: the list of releases and archives; some slowly, some cut off."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    drips: set[str] = field(default_factory=set)

    def offer(self, version: str, content: bytes, **wrong: Any) -> None:
        name = f"horde-bridge-{version}.tar.gz"
        self.files[f"/{name}"] = content
        release = {
            "version": version, "archive": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
            "notes": ["a new thing"], "date": "2027-01-01", **wrong,
        }  # fmt: skip
        self.files["/releases.json"] = json.dumps({"format": 1, "releases": [release]}).encode()


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    forge = Forge()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = forge.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            for start in range(0, len(content or b""), 65536):
                if self.path in forge.drips:
                    time.sleep(0.2)
                self.wfile.write((content or b"")[start : start + 65536])

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    forge.url = f"http://127.0.0.1:{server.server_port}/releases.json"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield forge
    server.shutdown()
    server.server_close()


def fill(folder: Path) -> Path:
    """The files of this version, in `folder`, with what Python compiled of them: many commands are started there."""
    folder.mkdir(parents=True)
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            # Not what is being written now, by tests beside these.
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            shutil.copy2(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("version") / "hb")


def archive_of(folder: Path, version: str = NEWER, more: Mapping[str, bytes] | None = None) -> bytes:
    """A release: this version under another number, with a file more and one less."""
    return _archive_of(folder, version, tuple((more or {}).items()))


@cache
def _archive_of(folder: Path, version: str, added: tuple[tuple[str, bytes], ...]) -> bytes:
    more = dict(added)
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz", compresslevel=1) as packed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            name, content = file.relative_to(folder).as_posix(), file.read_bytes()
            if name == "worker/__init__.py":
                content = content.replace(f'"{__version__}"'.encode(), f'"{version}"'.encode())
            if name == "CHANGELOG.md":
                content = f"# Changelog\n\n## {version}\n- everything is better\n\n## {__version__}\n- old\n".encode()
            if name not in more:
                add(packed, f"horde-bridge-{version}/{name}", content, executable=name.endswith(".sh"))
        for name, extra in more.items():
            add(packed, f"horde-bridge-{version}/{name}", extra)
    return held.getvalue()


def add(packed: tarfile.TarFile, name: str, content: bytes, *, executable: bool = False) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o755 if executable else 0o644
    packed.addfile(member, io.BytesIO(content))


def install(pristine: Path, folder: Path) -> Path:
    """A worker's folder with its owner's files, a template and secrets of his among ours."""
    shutil.copytree(pristine, folder)
    (folder / "models").mkdir()
    (folder / "models" / "m.bin").write_bytes(b"weights")
    own = folder / "comfy_workflows" / "mine" / "portrait"
    own.mkdir(parents=True)
    (own / "manifest.yaml").write_text("serves: {}\n")
    secret = folder / "containers" / "secrets" / "api_key"
    secret.parent.mkdir()
    secret.write_text("a key\n")
    secret.chmod(0o600)
    return folder


def configure(folder: Path, forge: Forge) -> Path:
    (folder / "bridgeData.yaml").write_text(f"# mine\nupdate_source: {forge.url}\ndreamer_name: Fox\n")
    forge.drips.clear()
    return folder


@pytest.fixture
def installed(pristine: Path, tmp_path: Path, forge: Forge) -> Path:
    return configure(install(pristine, tmp_path / "my worker"), forge)


@pytest.fixture(scope="module")
def shared(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A worker's folder for all tests after which it is as before, and a Python that has its code loaded."""
    folder = install(pristine, tmp_path_factory.mktemp("shared") / "my worker")
    if sys.platform != "linux":
        yield folder, Path(sys.executable)
        return
    packages = ("worker.commands.update", "anyio._backends._asyncio", "certifi", "httpcore")
    with preloaded(Path(sys.executable), folder.with_name("python"), packages, {"PYTHONPATH": str(folder)}) as python:
        yield folder, python


@pytest.fixture
def unchanged(shared: tuple[Path, Path], forge: Forge) -> tuple[Path, Path]:
    configure(shared[0], forge)
    return shared


def command(
    folder: Path, *arguments: str, python: Path | None = None, timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIWORKER_", "PYTHON"))}
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from worker.cli import main; main()"
    words = [str(python)] if python else [sys.executable, "-I"]
    return subprocess.run(
        [*words, "-c", code, str(folder), *arguments],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=timeout,
    )  # fmt: skip


def version(folder: Path) -> str:
    return (folder / "worker" / "__init__.py").read_text().split('__version__ = "')[1].split('"')[0]


def owners(folder: Path) -> dict[str, bytes]:
    template = "comfy_workflows/mine/portrait/manifest.yaml"
    names = ("bridgeData.yaml", "models/m.bin", template, "containers/secrets/api_key")
    return {name: (folder / name).read_bytes() for name in names}


def test_a_newer_version_is_shown_taken_and_given_back(installed, forge, pristine):
    forge.offer(NEWER, archive_of(pristine, more={"worker/new_module.py": b"", "NEWS.md": b"news"}))
    before = owners(installed)
    checked = command(installed, "update", "--check")
    assert (checked.returncode, NEWER in checked.stdout, "a new thing" in checked.stdout) == (0, True, True)
    assert version(installed) == __version__
    refused = command(installed, "update")
    assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
    taken = command(installed, "update", "--yes")
    assert taken.returncode == 0, taken.stderr
    assert "everything is better" in taken.stdout
    assert version(installed) == NEWER
    assert (installed / "NEWS.md").exists()
    assert owners(installed) == before
    again = command(installed, "update", "--check", "--json")
    assert json.loads(again.stdout) == {"current": NEWER, "channel": "stable", "available": None}
    returned = command(installed, "update", "--rollback", "--json")
    assert returned.returncode == 0, returned.stderr
    assert version(installed) == __version__
    assert not (installed / "NEWS.md").exists()
    assert not (installed / "worker" / "new_module.py").exists()
    assert owners(installed) == before


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("hash", "SHA-256"),
        ("truncated", "broke off"),
        ("other version", "another version"),
        ("no release", "it has no"),
        ("outside", "leads outside"),
        ("owners", "the owner's"),
        ("huge", "bytes, more than"),
        ("page", "can't be unpacked"),
        ("absent", "404"),
    ],
)
def test_a_bad_release_changes_nothing_and_is_named(unchanged, forge, pristine, kind, says):
    folder, python = unchanged
    good = archive_of(pristine)
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as packed:
        add(packed, {"outside": "hb/../../evil", "owners": "hb/bridgeData.yaml"}.get(kind, "hb/x"), b"x")
    match kind:
        case "hash":
            forge.offer(NEWER, good, sha256="00" * 32)
        case "truncated":
            forge.offer(NEWER, good[:-1000], bytes=len(good), sha256=hashlib.sha256(good).hexdigest())
        case "other version":
            forge.offer(NEWER, archive_of(pristine, "98.0.0"))
        case "huge":
            forge.offer(NEWER, good, bytes=1000)
        case "page":
            forge.offer(NEWER, b"<html>please sign in</html>")
        case "absent":
            forge.offer(NEWER, good, archive="elsewhere.tar.gz")
        case _:
            forge.offer(NEWER, held.getvalue())
    before = owners(folder)
    done = command(folder, "update", "--yes", python=python)
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
    assert version(folder) == __version__
    assert owners(folder) == before
    assert not list(folder.glob(".updates/incoming*"))
    assert not list(folder.glob(".updates/staged*"))


def test_a_downgrade_is_not_taken(unchanged, forge, pristine):
    folder, python = unchanged
    forge.offer("0.0.1", archive_of(pristine, "0.0.1"))
    done = command(folder, "update", "--yes", python=python)
    assert (done.returncode, "newest" in done.stdout) == (0, True)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b'{"format": 1}', b"\xff\xfe"])
def test_a_list_that_makes_no_sense_is_one_sentence(unchanged, forge, content):
    folder, python = unchanged
    forge.files["/releases.json"] = content
    done = command(folder, "update", "--check", python=python)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


def test_no_server_at_all_is_one_sentence(unchanged):
    folder, python = unchanged
    (folder / "bridgeData.yaml").write_text("update_source: https://127.0.0.1:9/releases.json\n")
    done = command(folder, "update", "--check", python=python)
    assert (done.returncode, "can't be reached" in done.stderr) == (1, True), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_code_comes_over_https_alone(unchanged):
    folder, python = unchanged
    (folder / "bridgeData.yaml").write_text("update_source: http://example.org/releases.json\n")
    done = command(folder, "update", "--check", python=python)
    assert (done.returncode, "https" in done.stderr) == (1, True), done.stderr


def test_the_launcher_finishes_what_was_killed_and_gives_up_what_does_not_serve(installed, forge, pristine):
    broken = {"worker/cli.py": b"import nothing_of_this_name\n"}
    forge.offer(NEWER, archive_of(pristine, more=broken))
    before = owners(installed)
    assert command(installed, "update", "--yes").returncode == 0
    assert version(installed) == NEWER
    runtime = make_runtime(installed / "runtime", installed)
    # It gives up within the first; the second takes it no more.
    for _ in range(2):
        subprocess.run(
            ["bash", str(installed / "horde-bridge.sh"), "run", "--config", "none.yaml"],
            cwd=installed, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120,
            env={**os.environ, "AIWORKER_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    assert version(installed) == __version__
    assert owners(installed) == before


@pytest.fixture(scope="module")
def origins(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repository, and the same one later, when it has a newer tag."""
    folder = tmp_path_factory.mktemp("forge")
    before, after = folder / "before", folder / "after"
    # Nobody commits what Python compiled.
    shutil.copytree(pristine, before, ignore=shutil.ignore_patterns("__pycache__"))
    run_git(before, "init", "-q", "-b", "main")
    run_git(before, "add", "-A")
    run_git(before, "commit", "-qm", "one")
    run_git(before, "tag", f"v{__version__}")
    run_git(folder, "clone", "-q", str(before), str(after))
    text = (after / "worker" / "__init__.py").read_text()
    (after / "worker" / "__init__.py").write_text(text.replace(__version__, NEWER))
    (after / "CHANGELOG.md").write_text(f"## {NEWER}\n- better\n")
    run_git(after, "commit", "-qam", "two")
    run_git(after, "tag", f"v{NEWER}")
    run_git(after, "tag", "v100.0.0b1")
    return before, after


@pytest.fixture
def clone(origins: tuple[Path, Path], pristine: Path, tmp_path: Path) -> Path:
    """A clone of a repository that has got a newer tag since."""
    before, after = origins
    clone = tmp_path / "clone"
    run_git(tmp_path, "clone", "-q", str(before), str(clone))
    run_git(clone, "remote", "set-url", "origin", str(after))
    take_compiled(pristine, clone)
    (clone / "bridgeData.yaml").write_text("dreamer_name: Fox\n")
    return clone


def take_compiled(pristine: Path, clone: Path) -> None:
    """What Python compiled of the same files, which is good for files of the same size and time."""
    for compiled in (pristine / "worker").rglob("__pycache__"):
        for file in compiled.parent.glob("*.py"):
            shutil.copystat(file, clone / file.relative_to(pristine))
        shutil.copytree(compiled, clone / compiled.relative_to(pristine))


def run_git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout  # fmt: skip


def test_a_clone_goes_forward_and_back(clone):
    checked = command(clone, "update", "--check", "--json")
    assert json.loads(checked.stdout)["available"] == NEWER, checked.stderr
    taken = command(clone, "update", "--yes")
    assert taken.returncode == 0, taken.stderr
    assert "- better" in taken.stdout
    assert version(clone) == NEWER
    returned = command(clone, "update", "--rollback")
    assert returned.returncode == 0, returned.stderr
    assert version(clone) == __version__


def test_changes_of_the_owner_and_commits_of_his_are_respected(clone):
    (clone / "README.md").write_text("mine")
    done = command(clone, "update", "--yes")
    assert (done.returncode, "README.md" in done.stderr, "git stash" in done.stderr) == (1, True, True), done.stderr
    run_git(clone, "commit", "-qam", "mine")
    done = command(clone, "update", "--yes")
    assert (done.returncode, "no fast-forward" in done.stderr) == (1, True), done.stderr
    assert (clone / "README.md").read_text() == "mine"
    assert version(clone) == __version__


def test_modes_that_a_disk_does_not_keep_and_tags_that_were_moved_do_not_stop_an_update(clone):
    """NTFS shows every file as executable; some forges move a tag to a newer commit."""
    for file in clone.rglob("*.py"):
        file.chmod(0o777)
    (clone / "horde-bridge.sh").chmod(0o644)
    run_git(clone, "tag", f"v{NEWER}", "HEAD")
    taken = command(clone, "update", "--yes")
    assert taken.returncode == 0, taken.stderr
    assert version(clone) == NEWER


def test_a_clone_without_its_origin_is_one_sentence(clone):
    run_git(clone, "remote", "set-url", "origin", str(clone / "gone"))
    done = command(clone, "update", "--check")
    assert (done.returncode, "origin can't be asked" in done.stderr) == (1, True), done.stderr
    run_git(clone, "remote", "remove", "origin")
    done = command(clone, "update", "--check")
    assert (done.returncode, "no remote" in done.stderr) == (1, True), done.stderr
