"""What uv is doing, how much of it is done and how long it may take, from the lines it has written so far."""

import re
from collections.abc import Iterable

from worker.units import listed

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
