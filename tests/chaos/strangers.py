"""Hostile requesters and hosts in a soak: every kind of `worker.demo.horde.hostile` in turn, in a seeded order."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from worker.demo.horde import hostile
from worker.demo.horde.app import HOSTILE_PICTURES
from worker.demo.horde.faults import Fault, FaultKind

#: A picture that never ends takes all of a job's time. The worker reports a fault for 15 s after that (FAULT_S),
#: and submits are struck here; so it is told of this many seconds less than the Horde waits.
REPORTING_S = 15

JobMaker = Callable[[Mapping[str, Any]], bytes]


@dataclass
class Strangers:
    """Faults of a pop's answer, and which jobs they made hostile."""

    chance: random.Random
    #: of jobs with hostile parts
    ids: set[str] = field(default_factory=set)
    #: answers by kind
    sent: Counter[str] = field(default_factory=Counter)
    _left: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        # What is large is made now, not while the worker's time is looked at.
        for kind in hostile.PICTURES:
            hostile.picture(kind)
        for kind in hostile.EMPTY_HANDED:
            hostile.empty_handed(kind)

    def next(self) -> Fault:
        """The next hostile answer to a pop."""
        if not self._left:
            self._left = self._faults()
            self.chance.shuffle(self._left)
        return self._left.pop()

    def _faults(self) -> list[Fault]:
        makers: dict[str, JobMaker] = {
            **{f"job/{kind}": make for kind, make in hostile.JOBS.items()},
            **{f"picture/{kind}": partial(_with_picture, kind) for kind in hostile.PICTURES},
        }
        spoiling = [partial(self._spoil, kind, make) for kind, make in makers.items()]
        sending = [partial(self._send, kind) for kind in hostile.EMPTY_HANDED]
        return [
            *(Fault(FaultKind.HOSTILE, after_effect=True, rewrite=rewrite) for rewrite in spoiling),
            *(Fault(FaultKind.HOSTILE, rewrite=rewrite) for rewrite in sending),
        ]

    def _spoil(self, kind: str, make: JobMaker, body: bytes) -> bytes:
        job = json.loads(body)
        self.ids.update(job["ids"])
        self.sent[kind] += 1
        return make(job)

    def _send(self, kind: str, _: bytes) -> bytes:
        self.sent[f"answer/{kind}"] += 1
        return hostile.empty_handed(kind)


def _with_picture(kind: str, job: Mapping[str, Any]) -> bytes:
    horde, _, _ = job["r2_upload"].partition("/r2/")
    return hostile.with_pictures({**job, "ttl": job["ttl"] - REPORTING_S}, f"{horde}{HOSTILE_PICTURES}{kind}")
