"""Child processes of the set-up: what they say goes to a log, what an owner sees is a short line that moves."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from worker.as_typed import as_typed
from worker.engine.install.layout import LOCK_FILE, ROOT
from worker.engine.install.remedies import remedy_of, remedy_of_end
from worker.errors import RuntimeMissing
from worker.file_facts import end_of
from worker.git_variables import ASTRAY
from worker.process.file_lock import lock, open_to_lock
from worker.process.signals import name_of_signal
from worker.units import listed

#: Three gigabytes over a line of two megabits.
COMMAND_TIMEOUT_S = 4 * 3600.0
#: Another set-up may be doing all of that.
LOCK_TIMEOUT_S = COMMAND_TIMEOUT_S
#: How often a child is looked at, and a lock tried.
POLL_INTERVAL_S = 0.2
#: How often the moving line changes on a terminal, and a line is printed elsewhere.
LIVE_INTERVAL_S = 1.0
PLAIN_INTERVAL_S = 15.0
#: A log longer than this is put aside, in place of the one before, when a command begins.
LOG_MAX_BYTES = 4 * 2**20
#: How much of a failed child's log is shown.
TAIL_LINES = 15
#: Enough of a log to hold what uv says of a hundred downloads.
TAIL_BYTES = 65536
#: Between asking a child to end and ending it.
STOP_GRACE_S = 5.0

#: What uv writes of downloads and their sizes.
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
DOWNLOADING = re.compile(r"\s*Downloading (?P<name>\S+) \((?P<size>[\d.]+) ?(?P<unit>[KMG]?i?B)\)")
DOWNLOADED = re.compile(r"\s*Downloaded (?P<name>\S+)")
#: After the downloads; the first that is found from the end counts.
PHASES = {
    "Installed ": "installed",
    "Prepared ": "downloaded; linking files",
    "Resolved ": "looking for packages and downloading",
}
#: Names of downloads that are shown, the largest first.
SHOWN = 2
#: Before this share is done, the time that is left is a guess.
SHARE_FOR_ESTIMATE = 0.05

#: Becomes a program that the system kills when this process ends: `-c TETHER ROOT PROGRAM ARGUMENTS…`.
TETHER = """
import os, signal, sys
root, *command = sys.argv[1:]
sys.path.insert(0, root)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what it becomes would inherit that
from worker.engine.launch import kill_with_parent
kill_with_parent()
os.execvp(command[0], command)
"""

#: Settings of the owner's shell that would lead uv, Python or git elsewhere.
FOREIGN = ASTRAY | {"PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX"}


def tethered(command: Sequence[str]) -> list[str]:
    """The command as a child that ends when this process is killed, where a system can do that."""
    return [sys.executable, "-I", "-c", TETHER, str(ROOT), *command] if sys.platform == "linux" else list(command)


class Screen:
    """Progress for people, on stderr: whole lines, and on a terminal a last line that changes in place."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._shown = 0

    @property
    def interval_s(self) -> float:
        return LIVE_INTERVAL_S if self._live else PLAIN_INTERVAL_S

    def say(self, line: str) -> None:
        self._write(f"\r{' ' * self._shown}\r" if self._shown else "", as_typed(line), "\n")
        self._shown = 0

    def tick(self, line: str) -> None:
        """Show a passing state."""
        if not self._live:
            self.say(line)
            return
        line = line[: max(20, _columns() - 1)]
        self._write("\r", line.ljust(self._shown))
        self._shown = len(line)

    def _write(self, *pieces: str) -> None:
        text = "".join(pieces)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80


@dataclass(frozen=True)
class Shell:
    """How children of the set-up of a runtime's folder are run.

    `lock` is inherited by them: it is held until the last of them ends.
    """

    screen: Screen
    folder: Path
    lock: int | None = None
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def scratch(self) -> Path:
        """Downloads, half-made things and temporary files, on the disk whose free space was checked."""
        return self.folder / "scratch"

    def with_environment(self, environ: dict[str, str]) -> "Shell":
        """This shell with other variables."""
        return replace(self, environ=environ)

    def run(self, command: Sequence[str], *, log: str, remedy: str = "", allowed: Sequence[int] = (0,)) -> int:
        """Run to the end. The exit code, or RuntimeMissing with the last lines of the log if it is not allowed."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"install-{log}.log"
        if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n$ {without_passwords(' '.join(command))}\n")
            file.flush()
            start = file.tell()
            with self._child(command, file) as child:
                self._watch(child, path, start, log)
        if child.returncode not in allowed:
            tail = _tail(path, start, TAIL_LINES)
            shown = "".join(f"\n    {without_passwords(line)}" for line in tail)
            raise RuntimeMissing(
                f"Setting up the {log} failed ({name_of_signal(child.returncode) or f'exit {child.returncode}'}). "
                f"The end of {path}:{shown}\n",
                remedy=remedy_of(tail)
                or remedy_of_end(child.returncode)
                or remedy
                or "Mend what the lines above name and run update-runtime again; nothing is lost.",
            )
        return child.returncode

    @contextlib.contextmanager
    def _child(self, command: Sequence[str], file: TextIO) -> Iterator["subprocess.Popen[bytes]"]:
        """A child that has ended, with its own children, when the block ends."""
        posix = os.name == "posix"
        if shutil.which(command[0]) is None:
            raise RuntimeMissing(f"{command[0]} can't be run: it is not there, or no program.")
        try:
            child = subprocess.Popen(
                tethered(command),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                pass_fds=(self.lock,) if posix and self.lock is not None else (),
                start_new_session=posix,
            )
        except OSError as error:
            raise RuntimeMissing(f"{command[0]} can't be run: {error.strerror}.") from error
        try:
            yield child
        finally:
            if child.poll() is None:
                _signal(child, hard=False)
                try:
                    child.wait(STOP_GRACE_S)
                except subprocess.TimeoutExpired:
                    _signal(child, hard=True)
                    child.wait()
            if child.stdin:
                child.stdin.close()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in self.environ.items() if name not in FOREIGN}
        temporary = str(self.scratch)
        return kept | {
            "PYTHONUNBUFFERED": "1",
            "GIT_TERMINAL_PROMPT": "0",
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary),
        }

    def _watch(self, child: "subprocess.Popen[bytes]", path: Path, start: int, name: str) -> None:
        began = shown = time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(POLL_INTERVAL_S)
                return
            now = time.monotonic()
            if now - began > COMMAND_TIMEOUT_S:
                raise RuntimeMissing(
                    f"Setting up the {name} took more than {COMMAND_TIMEOUT_S / 3600:.0f} hours.",
                    remedy=f"See {path} for what it hangs on, then run update-runtime again.",
                )
            if now - shown >= self.screen.interval_s:
                shown = now
                self.screen.tick(f"      {describe(_tail(path, start, TAIL_BYTES), now - began)}")


@contextlib.contextmanager
def the_only_set_up(folder: Path, screen: Screen) -> Iterator[Shell]:
    """The shell of the one set-up at work in a runtime's folder, which waits for others; its scratch folder goes."""
    with exclusive(folder / LOCK_FILE, screen) as lock:
        shell = Shell(screen, folder, lock)
        try:
            yield shell
        finally:
            shutil.rmtree(shell.scratch, ignore_errors=True)


@contextlib.contextmanager
def exclusive(path: Path, screen: Screen) -> Iterator[int]:
    """Hold a lock file, waiting for whoever has it. Yields its descriptor for children to inherit."""
    descriptor = open_to_lock(path)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        told = -screen.interval_s
        while not _is_ours(descriptor, screen):
            now = time.monotonic()
            if now > deadline:
                raise RuntimeMissing(f"Another set-up has held {path} for hours.", remedy="End it, and run again.")
            if now - told >= screen.interval_s:
                told = now
                screen.tick("Waiting for another set-up of this runtime to end …")
            time.sleep(POLL_INTERVAL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int, screen: Screen) -> bool:
    """Whether nobody else has the lock; where the disk has none, as some network drives, the owner has to see to it."""
    try:
        return lock(descriptor)
    except OSError as error:
        screen.say(f"NOTE: This disk has no locks ({error.strerror}): run one set-up at a time.")
        return True


def _signal(child: "subprocess.Popen[bytes]", *, hard: bool) -> None:
    if sys.platform == "win32":  # which knows one way only
        child.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL if hard else signal.SIGTERM)


def without_passwords(text: str) -> str:
    """The text with the user and password of every URL hidden."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "****", text)


def _tail(path: Path, start: int, lines: int) -> list[str]:
    """The last lines of a log that say anything, from byte `start` on."""
    text = end_of(path, TAIL_BYTES, start=start).decode("utf-8", errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def describe(lines: Iterable[str], elapsed_s: float) -> str:
    """A line for the owner: seconds, megabytes, names, and an estimate once there is ground for one."""
    waiting: dict[str, float] = {}
    total = 0.0
    phase = "working"
    for line in lines:
        if found := DOWNLOADING.match(line):
            size = float(found["size"]) * UNITS.get(found["unit"], 1)
            waiting[found["name"]] = size
            total += size
        elif found := DOWNLOADED.match(line):
            waiting.pop(found["name"], None)
        else:
            phase = next((text for start, text in PHASES.items() if line.lstrip().startswith(start)), phase)
    if not total or not waiting:
        return f"{elapsed_s:4.0f} s  {phase}"
    done = total - sum(waiting.values())
    names = sorted(waiting, key=lambda name: waiting[name], reverse=True)
    left = ""
    if done >= SHARE_FOR_ESTIMATE * total:
        left = f"; about {_minutes(elapsed_s * (total - done) / done)} left"
    return f"{elapsed_s:4.0f} s  {done / 1e6:,.0f} of {total / 1e6:,.0f} MB; downloading {listed(names, SHOWN)}{left}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, round(seconds))} s"  # noqa: PLR2004 - a minute and a half
