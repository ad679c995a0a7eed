"""What the system is to start. Pure."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.scheduling.drain import DRAIN_LIMIT_S

#: Seconds from the request to stop until the system may kill: the worker's own drain, the engines' end, a margin.
STOP_LIMIT_S: Final = int(DRAIN_LIMIT_S) + 50
#: Seconds before a worker that ended by itself is started again; and starts in an hour after which that ends.
RESTART_S, STARTS_PER_HOUR = 30, 20
_TITLE: Final = "AI Horde worker"


@dataclass(frozen=True)
class Order:
    """A worker of one folder."""

    launcher: Path
    #: where bridgeData.yaml is
    folder: Path
    #: options of `run`
    arguments: tuple[str, ...] = ()
    #: variables that the launcher needs and the system does not know
    environment: tuple[tuple[str, str], ...] = ()
    #: the worker's name, where there is one for each of several workers
    name: str = ""
    #: when the machine starts, not at the owner's login
    at_boot: bool = False
    #: the account to run as, where the system starts it for somebody else
    user: str = ""

    @property
    def label(self) -> str:
        """The service's name, safe as that of a file."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-").lower()[:40]
        if self.name and not slug:  # a name of other letters alone
            slug = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"horde-bridge-{slug}" if slug else "horde-bridge"

    @property
    def title(self) -> str:
        """For people, on one line."""
        return " ".join(f"{_TITLE} {self.name}".split())
