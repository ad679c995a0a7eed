"""Child processes of the set-up: logs, signs of life, errors, locks, ends."""

import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from worker.engine.install import shell as shell_module
from worker.engine.install.shell import Screen, Shell, exclusive, without_passwords
from worker.errors import RuntimeMissing

ROOT = Path(__file__).resolve().parents[3]
#: For a child to get as far as a line of output; reached only when something is wrong.
PATIENCE_S = 30.0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


@pytest.fixture
def screen():
    return Screen(io.StringIO())


@pytest.fixture
def shell(tmp_path, screen):
    return Shell(screen, tmp_path)


def shown(shell: Shell) -> str:
    return shell.screen._stream.getvalue()


def test_what_a_child_says_goes_to_the_log_with_the_command(shell, tmp_path):
    assert shell.run(python("print('hello')"), log="engine") == 0
    log = (tmp_path / "logs" / "install-engine.log").read_text()
    assert log.startswith("\n$ ")
    assert "hello" in log
    assert shown(shell) == ""


def test_a_long_log_is_put_aside_and_only_the_last_of_these_is_kept(shell, tmp_path, monkeypatch):
    monkeypatch.setattr(shell_module, "LOG_MAX_BYTES", 20)
    for word in ("first", "second", "third"):
        shell.run(python(f"print('{word} ' * 9)"), log="engine")
    logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert logs.keys() == {"install-engine.log", "install-engine.log.1"}
    assert "third" in logs["install-engine.log"]
    assert "second" in logs["install-engine.log.1"]


def test_a_failure_shows_the_end_of_its_own_log_and_the_remedy(shell):
    shell.run(python("print('of an earlier command')"), log="engine")
    with pytest.raises(RuntimeMissing) as failed:
        shell.run(
            python("print('\\n'.join(map(str, range(99)))); raise SystemExit(7)"), log="engine", remedy="Do this."
        )
    message = failed.value.message
    assert "exit 7" in message
    assert "install-engine.log" in message
    assert message.rstrip().endswith("98")
    assert "    84\n" in message
    assert "    83\n" not in message
    assert "earlier" not in message
    assert failed.value.remedy == "Do this."


def test_an_exit_code_that_is_allowed_is_handed_back(shell):
    assert shell.run(python("raise SystemExit(3)"), log="engine", allowed=(0, 3)) == 3


def test_a_program_that_does_not_exist_is_named(shell):
    with pytest.raises(RuntimeMissing, match="/nonexistent/python can't be run"):
        shell.run(["/nonexistent/python"], log="engine")


def test_passwords_in_urls_are_shown_nowhere(shell, tmp_path):
    with pytest.raises(RuntimeMissing) as failed:
        shell.run(
            [*python("import sys; sys.exit('Looking in ' + sys.argv[1])"), "https://me:secret@index.example/simple"],
            log="engine",
        )
    assert "secret" not in failed.value.message
    assert "****@index.example" in failed.value.message
    assert "secret" not in (tmp_path / "logs" / "install-engine.log").read_text().split("\n")[1]
    assert without_passwords("a https://x@y/z b") == "a https://****@y/z b"


def test_a_long_command_shows_what_it_is_doing(shell, monkeypatch):
    monkeypatch.setattr(shell_module, "PLAIN_INTERVAL_S", 0.05)
    monkeypatch.setattr(shell_module, "POLL_INTERVAL_S", 0.02)
    code = """
        import time
        print("Resolved 84 packages in 1.2s", flush=True)
        print("Downloading torch (800.0MiB)", flush=True)
        print("WARNING: no one wants to read this", flush=True)
        time.sleep(1)
    """
    shell.run(python(code), log="engine")
    assert " s  0 of 839 MB; downloading torch\n" in shown(shell)
    assert "WARNING" not in shown(shell)


def test_on_a_terminal_the_passing_line_is_replaced_and_never_left_behind():
    stream = Terminal()
    screen = Screen(stream)
    screen.tick("Downloading a long name")
    screen.tick("done")
    screen.say("next")
    assert stream.getvalue().endswith("\rdone                   \r    \rnext\n")


def test_a_name_the_terminal_cannot_write_does_not_stop_the_set_up():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Screen(stream).say("python: 3.11 → 3.12")
    stream.seek(0)
    assert stream.read() == "python: 3.11 ? 3.12\n"


def test_a_command_that_hangs_is_ended(shell, monkeypatch):
    monkeypatch.setattr(shell_module, "COMMAND_TIMEOUT_S", 0.2)
    monkeypatch.setattr(shell_module, "STOP_GRACE_S", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    before = set(psutil.Process().children())
    with pytest.raises(RuntimeMissing, match="took more than"):
        shell.run(python(code), log="engine")
    assert set(psutil.Process().children()) == before


def test_settings_that_lead_python_astray_do_not_reach_a_child(tmp_path, screen):
    environ = {**os.environ, "PYTHONPATH": "/foreign", "VIRTUAL_ENV": "/foreign", "KEPT": "yes"}
    shell = Shell(screen, tmp_path, environ=environ)
    code = """
        import os, tempfile
        print(os.environ.get("PYTHONPATH"), os.environ.get("VIRTUAL_ENV"), os.environ["KEPT"])
        print(tempfile.gettempdir())
    """
    shell.run(python(code), log="engine")
    log = (tmp_path / "logs" / "install-engine.log").read_text()
    assert "None None yes" in log
    assert f"{tmp_path / 'scratch'}\n" in log


def started(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


SET_UP = """
    import sys
    from pathlib import Path
    from worker.engine.install.shell import Screen, Shell, exclusive
    folder = Path(sys.argv[1])
    screen = Screen()
    with exclusive(folder / ".lock", screen) as lock:
        print("locked", flush=True)
        pid = str(folder / "pid")
        code = f"import os, pathlib, time; pathlib.Path({pid!r}).write_text(str(os.getpid())); time.sleep(60)"
        shell = Shell(screen, folder, lock)
        shell.run([sys.executable, "-c", code], log="engine")
"""


def test_a_killed_set_up_takes_its_child_along_and_frees_the_lock(tmp_path, screen):
    set_up = started(SET_UP, str(tmp_path))
    try:
        assert set_up.stdout.readline() == "locked\n"
        deadline = time.monotonic() + PATIENCE_S
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        set_up.send_signal(signal.SIGKILL)
        set_up.communicate()
    child.wait(PATIENCE_S)
    with exclusive(tmp_path / ".lock", screen):
        assert not psutil.pid_exists(child.pid)


def test_a_second_set_up_waits_for_the_first_and_says_so(tmp_path, screen, monkeypatch):
    first = started(
        """
        import sys
        from pathlib import Path
        from worker.engine.install.shell import Screen, exclusive
        with exclusive(Path(sys.argv[1]), Screen()):
            print("locked", flush=True)
            import time; time.sleep(0.6)
        """,
        str(tmp_path / ".lock"),
    )
    assert first.stdout.readline() == "locked\n"
    monkeypatch.setattr(shell_module, "POLL_INTERVAL_S", 0.02)
    with exclusive(tmp_path / ".lock", screen):
        assert "Waiting for another set-up" in screen._stream.getvalue()
    first.communicate()


def test_a_disk_without_locks_is_told_and_no_reason_to_stop(tmp_path, screen, monkeypatch):
    def no_locks(_descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("worker.engine.install.shell.lock", no_locks)
    with exclusive(tmp_path / "lock", screen):
        assert "has no locks (No locks available)" in screen._stream.getvalue()


def test_a_command_that_the_system_ended_is_told_by_the_signal(shell):
    with pytest.raises(RuntimeMissing, match=r"failed \(SIGKILL\)") as raised:
        shell.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], log="worker", remedy="Go online.")
    assert "memory runs out" in raised.value.remedy


def test_a_lock_that_is_never_freed_is_given_up_on(tmp_path, screen, monkeypatch):
    monkeypatch.setattr(shell_module, "LOCK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(shell_module, "POLL_INTERVAL_S", 0.02)
    with (
        exclusive(tmp_path / ".lock", screen),
        pytest.raises(RuntimeMissing, match="Another set-up"),
        exclusive(tmp_path / ".lock", screen),
    ):
        pytest.fail("two held it at once")
