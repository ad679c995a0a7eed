"""From a newer version on offer to one that lies ready beside the worker, checked; taking it is `switch`'s."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from worker import __version__
from worker.config.load import FILE_NAME
from worker.config.schema import BridgeData
from worker.errors import ConfigError, FileBroken, HostUnreachable, InputRefused
from worker.process.file_lock import lock_if_possible, open_to_lock
from worker.untrusted.json_reader import read_json_file, read_json_object
from worker.untrusted.text import visible
from worker.update import git_checkout
from worker.update.archive import unpack
from worker.update.fetch import Tell, client, fetch_archive, fetch_list
from worker.update.releases import Offer, changes_between, newest
from worker.update.switch import FOLDER, OWNERS, Journal, leave_copy, read_journal, returning, write_journal
from worker.whole_file import remove

#: The new version's look at the settings: imports and one file.
PROBE_LIMIT_S: Final = 60.0
#: What no release is without.
_NEEDED: Final = ("worker/__init__.py", "worker/cli.py", "horde-bridge.sh", "horde-bridge.cmd")
#: Parts of a release in which owners keep files too: templates; secrets and settings for Compose.
_SHARED: Final = ("comfy_workflows", "containers")
_PROBE: Final = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from worker.config.load import load_config
from worker.config.schema import BridgeData
from worker.errors import ConfigError
try:
    said = list(load_config(Path(sys.argv[2]), environment={}).warnings)
except ConfigError as error:
    said = ["cannot be used: " + str(error)]
print(json.dumps({"keys": list(BridgeData.model_fields), "said": said}))
"""


@dataclass(frozen=True)
class Staged:
    """A version that waits for its switch, and what its owner should know before."""

    offer: Offer
    changes: tuple[str, ...]
    #: about the settings: what the new version says of them, and keys it has more
    settings: tuple[str, ...]


def is_clone(root: Path) -> bool:
    """Whether the folder belongs to git."""
    return (root / ".git").exists()


async def look(root: Path, *, source: str, channel: str, current: str = __version__) -> Offer | None:
    """A version newer than this one. Raises DownloadError, ConfigError."""
    if is_clone(root):
        return git_checkout.look(root, current=current, channel=channel)
    async with client() as http:
        document = await fetch_list(http, source)
    try:
        return newest(document, base=source, current=current, channel=channel)
    except InputRefused as error:
        raise HostUnreachable(f"{source}: {error.message}", remedy="Check update_source.") from error


async def stage(root: Path, offer: Offer, tell: Tell, *, current: str = __version__) -> Staged:
    """Fetch, check and lay ready. Raises DownloadError, ConfigError, OSError; then nothing has changed."""
    with _alone(root):
        leave_copy(root)
        journal = read_journal(root)
        if journal and journal.phase == "switching":
            raise ConfigError("An earlier update is unfinished.", remedy="Start the worker once; it is finished then.")
        if is_clone(root):
            before = git_checkout.refuse_changes(root, offer)
            staged = Journal("staged", offer.version, current, "git", commit=offer.commit, commit_before=before)
            write_journal(root, staged)
            return Staged(offer, tuple(changes_between("".join(offer.notes), current, offer.version)), ())
        _clean(root, journal)
        ready = await _fetch(root, offer, tell)
        _carry_own_files(root, ready)
        changelog = ready / "CHANGELOG.md"
        text = changelog.read_text("utf-8", "replace") if changelog.is_file() else ""
        changes = tuple(map(visible, changes_between(text, current, offer.version))) or offer.notes
        write_journal(root, _journal(root, ready, offer, current))
        return Staged(offer, changes, tuple(settings_notes(root, ready)))


def roll_back(root: Path) -> str:
    """Lay the version before ready again; which it is. Raises ConfigError where there is none."""
    journal = read_journal(root)
    nothing = ConfigError("There is no earlier version to return to.", remedy="Each update from here keeps one.")
    if journal is None or journal.is_return or journal.phase not in {"trial", "settled"}:
        raise nothing
    if journal.kind == "archive" and not (root / FOLDER / journal.backup).is_dir():
        raise nothing
    with _alone(root):
        leave_copy(root)
        write_journal(root, returning(journal))
    return journal.previous


def forget_staged(root: Path) -> None:
    """The owner does not want it now: nothing waits any more."""
    journal = read_journal(root)
    if journal and journal.phase == "staged":
        write_journal(root, replace(journal, phase="settled", is_return=True))


async def _fetch(root: Path, offer: Offer, tell: Tell) -> Path:
    """The new version, unpacked and looked at, as a folder below `.updates`."""
    name = "".join(character if character.isalnum() or character in ".-" else "-" for character in offer.version)
    suffix = ".zip" if offer.url.split("?")[0].endswith(".zip") else ".tar"
    archive, incoming = root / FOLDER / f"incoming-{name}{suffix}", root / FOLDER / f"incoming-{name}"
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        async with client() as http:
            await fetch_archive(http, offer, archive, tell)
        files = unpack(archive, incoming)
        absent = [needed for needed in _NEEDED if needed not in files]
        told = (incoming / "worker" / "__init__.py").read_text("utf-8", "replace") if not absent else ""
        if absent or f'__version__ = "{offer.version}"' not in told:
            what = f"it has no {absent[0]}" if absent else "it is another version"
            raise FileBroken(f"{offer.url} is not the release {offer.version}: {what}.")
        ready = root / FOLDER / f"staged-{name}"
        shutil.rmtree(ready, ignore_errors=True)
        incoming.rename(ready)
        listing = root / FOLDER / f"files-{name}.json"
        listing.write_text(json.dumps(files), encoding="utf-8")
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(incoming, ignore_errors=True)
    return ready


def _journal(root: Path, ready: Path, offer: Offer, current: str) -> Journal:
    parts = sorted(path.name for path in ready.iterdir() if path.name not in OWNERS)
    # Only what is known to have come with a release goes; anything else is the owner's.
    known = {name.split("/")[0] for name in _files_of(root, current)}
    gone = sorted(name for name in known if name not in parts and name not in OWNERS and (root / name).exists())
    fresh = tuple(name for name in parts if not (root / name).exists())
    return Journal(
        "staged", offer.version, current, source=ready.name, backup=f"before-{ready.name.removeprefix('staged-')}",
        parts=tuple(parts), fresh=fresh, gone=tuple(gone),
    )  # fmt: skip


def _files_of(root: Path, version: str) -> set[str]:
    """The files that a release came with, where that was noted when it was taken."""
    try:
        found = read_json_file(root / FOLDER / f"files-{version}.json")
    except (OSError, InputRefused):
        return set()
    return {name for name in found if isinstance(name, str)} if isinstance(found, list) else set()


def _carry_own_files(root: Path, ready: Path) -> None:
    """What an owner has put beside our files comes along; ours that are no more do not."""
    ours = _files_of(root, __version__)
    for file in (file for part in _SHARED for file in (root / part).rglob("*")):
        name = file.relative_to(root).as_posix()
        target = ready / name
        if file.is_file() and not target.exists() and name not in ours and "__pycache__" not in name:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)


def settings_notes(root: Path, ready: Path) -> Iterator[str]:
    """What the new version says of the owner's settings, and the keys it has more than this one."""
    settings = Path(FILE_NAME)
    if not settings.is_file():
        return
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", _PROBE, str(ready), str(settings.absolute())],
            capture_output=True, stdin=subprocess.DEVNULL, timeout=PROBE_LIMIT_S, check=True, cwd=root,
        )  # fmt: skip
        told = read_json_object(done.stdout)
        keys, said = set(map(str, told["keys"])), [visible(str(line)) for line in told["said"]]
    except (OSError, subprocess.SubprocessError, InputRefused, KeyError, TypeError):
        yield "The settings could not be checked with the new version before it is set up."
        return
    yield from said
    if more := sorted(keys - BridgeData.model_fields.keys()):
        yield f"New settings, each with a default: {', '.join(more)}."
    if fewer := sorted(BridgeData.model_fields.keys() - keys):
        yield f"Settings that are no more: {', '.join(fewer)}."


def _clean(root: Path, journal: Journal | None) -> None:
    """Remove what earlier updates left, but for the version that can still be returned to."""
    keep = {journal.backup} if journal and not journal.is_return else set()
    for pattern in ("incoming-*", "staged-*", "before-*", "given-up-*"):
        for path in (root / FOLDER).glob(pattern):
            if path.name not in keep:
                remove(path, ignore_errors=True)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One update at a time. Raises ConfigError."""
    folder = root / FOLDER
    try:
        descriptor = open_to_lock(folder / "lock")
    except OSError as error:
        raise ConfigError(
            f"{folder} can't be written to: {error.strerror}.",
            remedy="Check the rights to the worker's folder, and the free disk.",
        ) from error
    try:
        if not lock_if_possible(descriptor):
            raise ConfigError("Another update is under way in this folder.", remedy="Wait for it to end.")
        yield
    finally:
        os.close(descriptor)
