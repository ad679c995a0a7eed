"""The lock files read: each package with its version, where it counts, and the sha256 of its files.

They pin with `===`, which is one build: `==2.14.1` is also 2.14.1+cu130, which an installer takes for the newer, and
which has another sha256. Indexes of PyTorch and folders of wheels in an owner's settings offer such builds.
"""

import re
from dataclasses import dataclass
from pathlib import Path

PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)===(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]*?))?\s*(?:\\|--hash|$)"
)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """A line of a lock. `name` as indexes normalise it, `marker` empty for every system and Python."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]

    @property
    def line(self) -> str:
        """What an installer is asked for, on every system."""
        return f"{self.name}==={self.version} {' '.join(f'--hash=sha256:{digest}' for digest in self.sha256)}\n"


def read_lock(path: Path) -> tuple[Pin, ...]:
    """What a lock file pins, in its order."""
    text = path.read_text(encoding="utf-8").replace("\\\n", "\\ ")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    found = ((PIN.match(line), HASH.findall(line)) for line in lines)
    return tuple(
        Pin(normal(pin["name"]), pin["version"], (pin["marker"] or "").strip(), tuple(hashes))
        for pin, hashes in found
        if pin
    )


def normal(name: str) -> str:
    """A package's name as indexes normalise it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
