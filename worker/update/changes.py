"""What is new between two versions, out of a changelog. Pure."""

import re
from typing import Final

from worker.update.releases import version_key

_HEADING: Final = re.compile(r"^##\s+\[?(?P<name>[^\]\s(]+)\]?", re.MULTILINE)
#: Lines that are shown at most.
MOST_LINES: Final = 60


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
