"""The server that tests start processes by: no client's end stops it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.preloaded import _connect, preloaded

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="signals of POSIX"),
]


@pytest.mark.parametrize("sent", [b"", b"{'argv'", b"{'argv': ['-c', 'pass'], 'env': {}, 'cwd': '/'}\n"])
def test_a_client_that_is_killed_at_any_moment_holds_up_no_other(tmp_path: Path, sent: bytes) -> None:
    folder = tmp_path / "preloaded"
    with preloaded(Path(sys.executable), folder, ()) as python:
        with _connect(folder) as killed:
            killed.sendall(sent)
        done = subprocess.run([python, "-c", "print(5)"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "5\n"
