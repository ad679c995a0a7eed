"""Which engine is in use, which was before, and what is known of each: one small file, written whole or not at all."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.untrusted.json_reader import JsonBounds, read_json_file
from worker.whole_file import write_whole

FORMAT = 1
STATE_FILE = "state.json"
#: A few hundred bytes an engine, and what was measured of its models.
STATE_BOUNDS = JsonBounds(max_bytes=4 * 2**20)
#: The engine that update-runtime installs, or that it was told to use. It is always there, and never removed.
INSTALLED = "installed"


@dataclass(frozen=True)
class Verdict:
    """What a trial found, in short. `at`: seconds of the epoch; `against` names the engine it was compared with."""

    at: float
    against: str
    takes: bool
    summary: str


@dataclass(frozen=True)
class EngineState:
    """The state file. Times are seconds of the epoch."""

    current: str = INSTALLED
    previous: str = INSTALLED
    #: since when `current` is; 0: always
    since: float = 0.0
    #: why, if not because the owner said so
    reason: str = ""
    #: what `current` has yet to show: it has not served long enough to be known as sound
    on_probation: bool = False
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    #: engine → kind of job → seconds for its work, as measured in service
    speeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def using(self, name: str, *, now: float, reason: str = "") -> "EngineState":
        """This state with another engine in use. One that is gone back to, with a `reason`, needs no probation, and
        the one that is left is not gone back to.
        """
        return dataclasses.replace(
            self,
            current=name,
            previous=INSTALLED if reason else self.current,
            since=now,
            reason=reason,
            on_probation=not reason and name != INSTALLED,
        )

    def proven(self, name: str) -> "EngineState":
        """This state with the engine in use known as sound, if that is `name`."""
        return dataclasses.replace(self, on_probation=False) if self.current == name else self

    def without(self, name: str) -> "EngineState":
        """This state with all forgotten that is known of an engine that is not in use."""
        return dataclasses.replace(
            self,
            previous=INSTALLED if self.previous == name else self.previous,
            verdicts={other: verdict for other, verdict in self.verdicts.items() if other != name},
            speeds={other: speeds for other, speeds in self.speeds.items() if other != name},
        )

    def with_verdict(self, name: str, verdict: Verdict) -> "EngineState":
        return dataclasses.replace(self, verdicts={**self.verdicts, name: verdict})

    def with_speeds(self, name: str, speeds: Mapping[str, float]) -> "EngineState":
        return dataclasses.replace(self, speeds={**self.speeds, name: dict(speeds)})

    @classmethod
    def load(cls, folder: Path) -> "EngineState":
        """What the file in `folder` says; that of no file, or one that makes no sense, is the installed engine."""
        try:
            found = read_json_file(folder / STATE_FILE, STATE_BOUNDS)
            return cls._read(found) if found["format"] == FORMAT else cls()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    @classmethod
    def _read(cls, found: Mapping[str, Any]) -> "EngineState":
        return cls(
            current=str(found["current"]),
            previous=str(found["previous"]),
            since=float(found["since"]),
            reason=str(found["reason"]),
            on_probation=found["on_probation"] is True,
            verdicts={str(name): Verdict(**verdict) for name, verdict in found["verdicts"].items()},
            speeds={
                str(name): {str(kind): float(seconds) for kind, seconds in speeds.items()}
                for name, speeds in found["speeds"].items()
            },
        )

    def save(self, folder: Path) -> None:
        """Write atomically: whoever reads meanwhile, or after a crash, finds the old state or the new one."""
        write_whole(folder / STATE_FILE, json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n")
