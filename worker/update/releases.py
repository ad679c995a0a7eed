"""Which releases there are, which one is next, and what is new in it. Pure; the list comes from outside and is read as
such.
"""

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import InputRefused
from worker.untrusted.text import visible

FORMAT: Final = 1
#: Releases of one list; older ones are of no use to anybody who updates.
MOST_RELEASES: Final = 200
#: The largest archive that is fetched, in bytes; the repository has 5 MB.
MAX_ARCHIVE_BYTES: Final = 200 * 1024**2
_VERSION: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-.]?(a|b|rc|beta|alpha)\.?(\d{1,6}))?")
_STAGES: Final = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "rc": 2}
_HEADING: Final = re.compile(r"^##\s+\[?(?P<name>[^\]\s(]+)\]?", re.MULTILINE)
#: Lines of a changelog that are shown at most.
MOST_LINES: Final = 60
CHANNELS: Final = ("stable", "beta")

Key = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Offer:
    """A version newer than the one here. `sha256` and `size` are of the archive; a clone has a commit instead."""

    version: str
    url: str = ""
    sha256: str = ""
    size: int = 0
    notes: tuple[str, ...] = ()
    date: str = ""
    commit: str = ""


class _Release(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    version: str = Field(max_length=40)
    channel: str = "stable"
    archive: str = Field(min_length=1, max_length=1000)
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    bytes: int = Field(gt=0, le=MAX_ARCHIVE_BYTES)
    date: str = Field(default="", max_length=40)
    notes: list[str] = Field(default=[], max_length=100)


def version_key(text: str) -> Key | None:
    """A version to compare by; None for what is none. Trial versions (a, b, rc) come before their release."""
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        return None
    stage = _STAGES[found[4]] if found[4] else 3
    return int(found[1]), int(found[2]), int(found[3]), stage, int(found[5] or 0)


def is_trial(version: str) -> bool:
    """Whether a version is for the channel beta alone."""
    key = version_key(version)
    return key is not None and key[3] < 3  # noqa: PLR2004 - the stage of a release


def newest(document: Any, *, base: str, current: str, channel: str) -> Offer | None:
    """The newest release of the channel, if it is newer than `current`; beta has the stable ones as well.

    `base`: the address that relative ones start from. Raises InputRefused for what is no list of releases; single
    entries that make no sense are left out.
    """
    entries = document.get("releases") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if not isinstance(entries, list):
        raise InputRefused("It is no list of releases.")
    best: tuple[Key, Offer] | None = None
    here = version_key(current)
    for entry in entries[:MOST_RELEASES]:
        try:
            release = _Release.model_validate(entry)
        except ValidationError:
            continue
        key = version_key(release.version)
        trial = release.channel != "stable" or is_trial(release.version)
        if key is None or (here and key <= here) or (trial and channel != "beta") or (best and key <= best[0]):
            continue
        notes = tuple(visible(note)[:500] for note in release.notes)
        offer = Offer(
            release.version.removeprefix("v"), urljoin(base, release.archive), release.sha256.lower(), release.bytes,
            notes, visible(release.date),
        )  # fmt: skip
        best = key, offer
    return best[1] if best else None


def changes_between(changelog: str, old: str, new: str) -> list[str]:
    """The lines of all versions after `old` up to `new`, the newest first; without the headings of empty sections.

    *Unreleased* counts for versions that the changelog has no heading for.
    """
    low, high = version_key(old), version_key(new)
    headings = list(_HEADING.finditer(changelog))
    named = {version_key(found["name"]) for found in headings}
    lines: list[str] = []
    for found, following in zip(headings, [*headings[1:], None], strict=False):
        key = version_key(found["name"])
        unreleased = found["name"].lower() == "unreleased" and high not in named
        if not unreleased and (key is None or (low and key <= low) or (high and key > high)):
            continue
        section = changelog[found.end() : following.start() if following else len(changelog)]
        body = section.split("\n", 1)[1] if "\n" in section else ""
        lines += [line.rstrip() for line in body.splitlines() if line.strip() and not re.match(r"#+ *$", line)]
    shown = lines[:MOST_LINES]
    return [*shown, f"… and {len(lines) - len(shown)} lines more in CHANGELOG.md"] if len(lines) > len(shown) else shown
