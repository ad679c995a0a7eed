"""What a scripted safety checker does: how long it takes, and what goes wrong. See worker.demo.engine.script."""

import json
import random
import uuid
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from worker.demo.engine.script import count_strike, write_script


class SafetyFaultKind(str, Enum):
    #: ends while it starts
    START_CRASH = "start_crash"
    #: says that its weights can't be had
    NO_WEIGHTS = "no_weights"
    #: never gets ready
    START_HANG = "start_hang"
    #: ends while it looks at an image
    CRASH = "crash"
    #: looks at an image for ever
    HANG = "hang"
    #: answers with bytes that are no frame
    GARBAGE = "garbage"
    #: answers with JSON that is nested deeper than any parser goes
    NESTED = "nested"
    #: answers each question twice, as if it knew the next
    AHEAD = "ahead"
    #: answers with a frame that is no verdict
    NO_VERDICT = "no_verdict"
    #: answers for another image
    WRONG_IMAGE = "wrong_image"
    #: can't look at this image
    ERROR = "error"


START_FAULTS = frozenset({SafetyFaultKind.START_CRASH, SafetyFaultKind.NO_WEIGHTS, SafetyFaultKind.START_HANG})
CHECK_FAULTS = frozenset(SafetyFaultKind) - START_FAULTS


@dataclass(frozen=True)
class SafetyFault:
    """One thing that goes wrong."""

    kind: SafetyFaultKind
    #: how often in all; None: always
    times: int | None = 1
    #: probability that it strikes when it could
    chance: float = 1.0


@dataclass(frozen=True)
class SafetyScript:
    """Pace and faults. The first fault that fits strikes."""

    #: for one look
    seconds: float = 0.0
    #: from launch to readiness
    start_seconds: float = 0.0
    faults: tuple[SafetyFault, ...] = ()
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def write(self, path: Path) -> None:
        """Put this script in force, with fresh counts."""
        write_script(path, self.id, asdict(self))


def read_script(path: Path | None) -> SafetyScript:
    """The script in force; an empty one where there is no file."""
    if path is None or not path.exists():
        return SafetyScript()
    content = json.loads(path.read_text(encoding="utf-8"))
    faults = tuple(SafetyFault(**{**each, "kind": SafetyFaultKind(each["kind"])}) for each in content.pop("faults"))
    return SafetyScript(**content, faults=faults)


def claim_fault(path: Path | None, kinds: frozenset[SafetyFaultKind]) -> SafetyFaultKind | None:
    """The fault that strikes now, if any; it is counted."""
    if path is None:
        return None
    script = read_script(path)
    for number, fault in enumerate(script.faults):
        if fault.kind not in kinds or random.random() >= fault.chance:
            continue
        if count_strike(path, script.id, number, kind=fault.kind.value, times=fault.times):
            return fault.kind
    return None
