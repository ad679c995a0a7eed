"""uv is fetched by a script that needs no Python, whatever is wrong with the tools and the network it finds."""

import hashlib
import http.server
import os
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.place import program

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "bash", "dirname", "uname", "sed", "cut", "tr", "wc", "head", "tail", "cp", "mv", "rm", "mkdir", "chmod", "gzip",
    "sha256sum",
)  # fmt: skip
UV = "#!/bin/sh\necho uv 1\n"
#: curl of snap, which is confined to parts of the home folder.
CONFINED = 'echo "curl: (23) client returned ERROR on write of 1369 bytes" >&2; exit 23'
#: curl that finds another program's libraries.
BROKEN = 'echo "curl: symbol lookup error: curl: undefined symbol: curl_mime_free" >&2; exit 127'


class Machine:
    """The script with a list of its own, an index with a wheel of a few bytes, and few tools."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.runtime, self.index = folder / "bin", folder / "run time", folder / "index"
        self.install = folder / "install"
        for new in (self.bin, self.runtime, self.index / "uv", self.install, folder / "lock"):
            new.mkdir(parents=True)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        shutil.copy(ROOT / "worker/engine/install/fetch-uv.sh", self.install)
        self.wheel = self.index / "uv" / "uv-1-py3-none-any.whl"
        self.made_of(UV)

    def made_of(self, text: str) -> None:
        """The wheel holds this as uv."""
        with zipfile.ZipFile(self.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("uv", text)
            packed = archive.getinfo("uv")
        content = self.wheel.read_bytes()
        begin = content.index(b"uv") + 2
        end = struct.pack("<II", zlib.crc32(text.encode()), len(text)).hex()
        told = f"1 {self.wheel.name} {hashlib.sha256(content).hexdigest()} {len(content)} {begin}"
        systems = [f"{name} {told} {packed.compress_size} {end}" for name in ("linux-x86_64-gnu", "linux-aarch64-gnu")]
        (self.install.parent / "lock" / "uv.txt").write_text("\n".join(systems) + "\n")

    def has(self, tool: str, body: str = "") -> None:
        """This tool is there: the system's, or one that does this."""
        (self.bin / tool).unlink(missing_ok=True)
        if body:
            program(self.bin / tool, body)
        else:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def fetch(self, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", self.install / "fetch-uv.sh", self.runtime], env={"PATH": str(self.bin), **environ},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def mirror(machine: Machine) -> Iterator[dict[str, str]]:
    """The index by HTTP, from a server that can't go on in the middle of a file."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(machine.index))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("body", [CONFINED, BROKEN], ids=["snap", "foreign libraries"])
def test_where_one_tool_cannot_another_one_downloads(machine, mirror, body):
    machine.has("curl", body)
    machine.has("python3", f'exec {sys.executable} "$@"')
    done = machine.fetch(**mirror)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([done.stdout.strip()], capture_output=True, text=True, check=True).stdout == "uv 1\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_a_cut_download_does_not_stop_where_the_server_cannot_go_on_in_it(machine, mirror):
    machine.has("curl")
    part = machine.runtime / "uv-1" / f"{machine.wheel.name}.part"
    part.parent.mkdir()
    part.write_bytes(machine.wheel.read_bytes()[:50])
    done = machine.fetch(**mirror)
    assert done.returncode == 0, done.stderr


def test_a_tool_that_cannot_write_where_everybody_can_is_not_a_full_disk(machine, mirror):
    machine.has("curl", CONFINED)
    done = machine.fetch(**mirror)
    assert (done.returncode, "could not be downloaded (exit 23" in done.stderr) == (1, True), done.stderr
    assert "Make room" not in done.stderr


def test_an_emptied_uv_is_fetched_anew(machine):
    emptied = machine.runtime / "uv-1" / "uv"
    program(emptied, "").write_text("")
    done = machine.fetch(AIWORKER_WHEELS=str(machine.wheel.parent))
    assert done.returncode == 0, done.stderr
    assert emptied.read_text() == UV


@pytest.mark.parametrize(
    ("text", "said", "advised"),
    [
        pytest.param(
            "#!/bin/sh\necho 'NixOS cannot run dynamically linked executables' >&2; exit 127\n",
            "NixOS cannot run", "nix-ld", id="NixOS",
        ),
        pytest.param("#!/nowhere/loader\n", "", "nix-ld", id="a 32-bit system on a 64-bit kernel"),
        pytest.param("#!/bin/sh\nkill -4 $$\n", "", "exit code 132", id="a processor that is too old"),
    ],
)  # fmt: skip
def test_a_uv_that_cannot_be_run_is_told_with_its_words_and_why(machine, text, said, advised):
    machine.made_of(text)
    done = machine.fetch(AIWORKER_WHEELS=str(machine.wheel.parent))
    assert done.returncode == 1
    assert "can't be run" in done.stderr
    assert said in done.stderr
    assert advised in done.stderr
    assert "noexec" not in done.stderr
    assert not os.listdir(machine.runtime / "uv-1")  # noqa: PTH208 - names
