"""What a failed set-up advises, by what uv, git and the system say, in their own words."""

import errno

import pytest

from worker.engine.install.remedies import remedy_of, remedy_of_end, remedy_of_error


@pytest.mark.parametrize(
    ("said", "advised"),
    [
        ("cause: failed to open file `/m/cache/METADATA`: No space left on device (os error 28)", "disk is full"),
        ("failed to write: There is not enough space on the disk. (os error 112)", "disk is full"),
        ("failed to read `/m`: Input/output error (os error 5)", "reports errors"),
        ("failed to create directory `/m`: Read-only file system (os error 30)", "only be read"),
        (
            "The cloud operation cannot be performed on a file with incompatible hardlinks. (os error 396)",
            "OneDrive",
        ),
        ("failed to rename file from A to B: Accès refusé. (os error 5)", "virus scanner"),
        ("failed to remove file: the process cannot access the file (os error 32)", "Stop the worker"),
        ("cause: failed to symlink file from A to B: Operation not permitted (os error 1)", "knows no links"),
        ("failed to create `/x/.lock`: Permission denied (os error 13)", "sudo chown"),
        ("invalid peer certificate: certificate not valid yet: verification time 0", "clock"),
        ("cause: invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("hint: Packages were unavailable because the network was disabled.", "UV_OFFLINE"),
        ("Hash mismatch for `torch==2`", "another mirror"),
        ("HTTP status client error (403 Forbidden) for url", "refuses"),
        ("Missing `Content-Type` header for `http://x/simple/`", "log in"),
        ("Because httpx was not found in the package registry", "does not have"),
        ("fatal: detected dubious ownership in repository at '/r'", "safe.directory"),
        ("ERROR: /m/runtime/uv-1/uv can't be run: Permission denied", "lines above"),
        ("failed to lock `/m/runtime/cache/.lock`: No locks available (os error 37)", "network drives"),
        ("memory allocation of 16393 bytes failed", "add swap"),
        ("IO error for operation on /m/typer: Too many open files (os error 24)", "ulimit -n"),
        ("thread 'main' panicked: failed to spawn thread: Resource temporarily unavailable", "pids limit"),
        ("failed to write to file `/m/.tmp`: File too large (os error 27)", "FAT32"),
        ("OSError: [Errno 8] Exec format error: '/m/runtime/uv-1/uv'", "delete `uv-…`"),
        ("libc.so.6: version `GLIBC_2.28' not found", "too old"),
        (
            "ImportError: libnvshmem_host.so.3: undefined symbol: _ZTV, version CXXABI_1.3",
            "LD_LIBRARY_PATH",
        ),
        ("/opt/conda/lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found", "LD_LIBRARY_PATH"),
        ("ImportError: DLL load failed while importing _C", "Redistributable"),
    ],
)
def test_what_a_command_says_leads_to_what_to_do(said, advised):
    remedy = remedy_of(["error: Failed to install", said])
    assert remedy is not None
    assert advised in remedy


def test_lines_that_say_nothing_known_lead_nowhere():
    assert remedy_of(["error: something else", "client error (Connect)"]) is None
    assert remedy_of([]) is None


@pytest.mark.parametrize(
    ("number", "advised"),
    [(errno.ENOSPC, "full"), (errno.EACCES, "chown"), (errno.EROFS, "only be read"), (errno.EDQUOT, "quota")],
)
def test_an_error_of_the_system_leads_to_what_to_do(number, advised):
    assert advised in (remedy_of_error(OSError(number, "text")) or "")


def test_an_unknown_error_of_the_system_leads_nowhere():
    assert remedy_of_error(OSError("no number")) is None


@pytest.mark.parametrize(
    ("code", "advised"), [(-9, "memory"), (-4, "AVX"), (-11, "--repair"), (-7, "disk is full"), (-25, "ulimit -f")]
)
def test_a_signal_that_ended_a_command_leads_to_what_to_do(code, advised):
    assert advised in (remedy_of_end(code) or "")


@pytest.mark.parametrize("code", [0, 1, 137, -2, -99])
def test_other_ends_lead_nowhere(code):
    assert remedy_of_end(code) is None
