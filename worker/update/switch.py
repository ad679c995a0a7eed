"""One version in the place of another, whatever interrupts it: `main` runs before the worker, from a copy of its own.

Everything of an update lies in `.updates` of the worker's folder, on the same disk, so that the parts of a version
change places by renaming. A journal says what is under way and is written before each phase:

    staged      a version lies ready; it is taken when no worker of this folder runs
    switching   parts are changing places: whoever starts next goes on where that ended
    trial       the new version was taken; it counts its starts until it serves
    settled     nothing to do

A version that was started `MOST_STARTS` times without serving gives its place back. Owners' files are no parts of a
version and are never touched. Standard library only: this must run when everything else is half exchanged.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from worker.git_variables import ASTRAY
from worker.process.file_lock import is_in_use
from worker.whole_file import move_whole, write_whole

FOLDER: Final = ".updates"
JOURNAL: Final = "journal.json"
#: There while `main` has something to do, so that launchers need not read the journal.
MARKER: Final = "pending"
RESTART: Final = "restart"
#: Starts of a new version that did not serve, after which the old one is taken again.
MOST_STARTS: Final = 3
#: A merge of a clone takes a second.
GIT_LIMIT_S: Final = 120.0
#: Names at the top of a worker's folder that belong to its owner or to this machine.
OWNERS: Final = frozenset({
    ".env", ".git", ".updates", "bridgeData.env", "bridgeData.yaml", "custom_models.json", "demo-out", "logs", "models",
    "runtime",
})  # fmt: skip


@dataclass(frozen=True)
class Journal:
    """What is under way. Folders are names below `.updates`."""

    phase: str
    version: str
    #: the version before
    previous: str
    #: "archive" or "git"
    kind: str = "archive"
    #: where the parts of `version` lie until they are taken, and where those of `previous` go
    source: str = ""
    backup: str = ""
    #: names of the parts of `version`; those of them that `previous` has not; those that only `previous` has
    parts: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    #: of a clone: commits
    commit: str = ""
    commit_before: str = ""
    starts: int = 0
    #: the switch gives a version up
    is_return: bool = False


class SwitchFailed(Exception):
    """A sentence for the owner."""


def read_journal(root: Path) -> Journal | None:
    """None where nothing was ever updated, or what is written makes no sense."""
    try:
        found: dict[str, Any] = json.loads((root / FOLDER / JOURNAL).read_text(encoding="utf-8"))
        return Journal(**{**found, **{name: tuple(found[name]) for name in ("parts", "fresh", "gone")}})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_journal(root: Path, journal: Journal) -> None:
    """Whole or not at all; the marker is there before and goes after. Raises OSError."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    if journal.phase != "settled":
        (folder / MARKER).touch()
    write_whole(folder / JOURNAL, json.dumps(asdict(journal)))
    if journal.phase == "settled":
        (folder / MARKER).unlink(missing_ok=True)


def users(root: Path) -> Path:
    """Where workers that run from this folder say so."""
    return root / FOLDER / "running"


def step(root: Path, *, starting: bool) -> str:
    """Do what the journal asks for; a sentence about it, or nothing. Raises SwitchFailed, OSError.

    `starting`: a worker is about to start, which counts as a try of a new version.
    """
    journal = read_journal(root)
    if journal is None or journal.phase == "settled":
        (root / FOLDER / MARKER).unlink(missing_ok=True)
        return ""
    if journal.phase == "trial":
        if not starting:
            return ""
        if journal.starts < MOST_STARTS:
            write_journal(root, replace(journal, starts=journal.starts + 1))
            return ""
        journal = returning(journal)
    if journal.phase == "staged" and is_in_use(users(root)):
        return f"Version {journal.version} waits until no worker of this folder runs."
    write_journal(root, replace(journal, phase="switching"))
    _exchange(root, journal)
    if journal.is_return:
        write_journal(root, replace(journal, phase="settled"))
        return f"Version {journal.previous} did not serve; {journal.version} is in its place again."
    write_journal(root, replace(journal, phase="trial", starts=1 if starting else 0))
    return f"Version {journal.version} is in the place of {journal.previous}."


def returning(journal: Journal) -> Journal:
    """The journal that takes the version before again."""
    return Journal(
        "staged", journal.previous, journal.version, journal.kind,
        source=journal.backup, backup=f"given-up-{journal.version}",
        parts=(*(name for name in journal.parts if name not in journal.fresh), *journal.gone),
        fresh=journal.gone, gone=journal.fresh,
        commit=journal.commit_before, commit_before=journal.commit, is_return=True,
    )  # fmt: skip


def given_up(root: Path) -> str:
    """The version that last gave its place back, by itself or as its owner wished; not to be taken again unasked."""
    journal = read_journal(root)
    return journal.previous if journal is not None and journal.is_return and journal.phase == "settled" else ""


def on_trial(root: Path) -> Journal | None:
    """The journal, while a new version is watched until it serves."""
    journal = read_journal(root)
    return journal if journal is not None and journal.phase == "trial" else None


def confirm(root: Path) -> str:
    """The version serves: it stays. Returns it if it was on trial."""
    journal = on_trial(root)
    if journal is None:
        return ""
    write_journal(root, replace(journal, phase="settled"))
    return journal.version


def ask_restart(root: Path) -> None:
    """Note that the worker ends only to start again with the version that lies ready. Raises OSError."""
    (root / FOLDER / RESTART).touch()


def takes_restart(root: Path) -> bool:
    """Whether that was noted; it holds once."""
    try:
        (root / FOLDER / RESTART).unlink()
    except OSError:
        return False
    journal = read_journal(root)
    return journal is not None and journal.phase == "staged"


def _exchange(root: Path, journal: Journal) -> None:
    if journal.kind == "git":
        _git(root, journal)
        return
    source, backup = root / FOLDER / journal.source, root / FOLDER / journal.backup
    backup.mkdir(parents=True, exist_ok=True)
    for name in (*journal.parts, *journal.gone):
        if name in OWNERS or Path(name).name != name:
            raise SwitchFailed(f"{name} is no part of a version.")
    for name in journal.parts:
        old, new, kept = root / name, source / name, backup / name
        if _there(new):
            if _there(old):
                _move(old, kept)
            _rename(new, old)
    for name in journal.gone:
        if _there(root / name):
            _move(root / name, backup / name)


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _move(old: Path, kept: Path) -> None:
    """Move away; what lies there already is of an earlier try, and stays."""
    number = 0
    while _there(kept):
        number += 1
        kept = kept.with_name(f"{old.name}.{number}")
    _rename(old, kept)


def _rename(old: Path, new: Path) -> None:
    try:
        move_whole(old, new)
    except OSError as error:
        raise SwitchFailed(
            f"{old} can't be moved ({error.strerror}). Close what uses that folder, then start again: it goes on here."
        ) from error


def _git(root: Path, journal: Journal) -> None:
    head = git(root, "rev-parse", "HEAD").strip()
    if head == journal.commit:
        return
    on_branch = bool(git(root, "branch", "--show-current").strip())
    if journal.is_return:
        git(root, *(("reset", "--keep") if on_branch else ("checkout", "--detach")), journal.commit)
    else:
        git(root, *(("merge", "--ff-only") if on_branch else ("checkout", "--detach")), journal.commit)


def git(root: Path, *arguments: str) -> str:
    """What git says; it never asks anything. Raises SwitchFailed."""
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}
    quiet["LC_ALL"] = "C"
    kept = {name: value for name, value in os.environ.items() if name not in ASTRAY}
    # Disks of Windows and some unpackers keep no modes: a file that lost its own is not changed.
    command = ["git", "-C", str(root), "-c", "core.fileMode=false", *arguments]
    try:
        done = subprocess.run(
            command, env={**kept, **quiet}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=GIT_LIMIT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise SwitchFailed("git is not installed, and this folder is a clone. Install git.") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise SwitchFailed(f"git {arguments[0]} did not end: {type(error).__name__}.") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
        if any("dubious ownership" in line for line in said):
            raise SwitchFailed(
                f"{root} belongs to another user, for whom alone git works in it. Run this as that user, or allow it: "
                f'git config --global --add safe.directory "{root}"'
            )
        # A line on where it fetched from may come first.
        telling = next((line for line in said if line.startswith(("fatal:", "error:", " ! "))), said[0])
        raise SwitchFailed(f"git {arguments[0]}: {telling.strip()}")
    return done.stdout


def leave_copy(root: Path) -> None:
    """Put a copy of what launchers run where it stays while the worker's own code changes places. Raises OSError."""
    here = Path(__file__).resolve().parents[1]
    target = root / FOLDER / "code" / "worker"
    for name in ("update/switch.py", "update/trial.py", "process/file_lock.py", "git_variables.py", "whole_file.py"):
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here / name, copy.with_suffix(".new"))
        copy.with_suffix(".new").replace(copy)
    for package in ("", "update", "process"):
        (target / package / "__init__.py").touch()


def main(arguments: Sequence[str] | None = None) -> int:
    """`FOLDER [arguments of the worker]`: 0 when the worker may start, 1 with a sentence on standard error."""
    root, *rest = sys.argv[1:] if arguments is None else arguments
    starting = (
        not rest or rest[0] == "run" or (rest[0].startswith("-") and rest[0] not in {"-h", "--help", "--version"})
    )
    try:
        said = step(Path(root), starting=starting)
    except (SwitchFailed, OSError) as error:
        sys.stderr.write(f"horde-bridge: the update is unfinished: {error}\n")
        return 1
    if said:
        sys.stderr.write(f"{said}\n")
    return 0
