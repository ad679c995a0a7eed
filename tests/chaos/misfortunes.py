"""What befalls a worker in a soak: one misfortune at a time, by a seeded chance, each harmless in the end.

Engines are killed and stopped, jobs fail inside them, the Horde answers nonsense or not at all, the network is gone
for a while, pictures can't be fetched, the safety checker dies and hangs, and strangers send what is hostile. What is
done is undone; nothing outlives `calm`.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from worker.demo.engine.script import Fault as EngineFault
from worker.demo.engine.script import FaultKind as EngineFaultKind
from worker.demo.engine.script import struck
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import Refused
from worker.demo.safety.script import SafetyFault, SafetyFaultKind, SafetyScript
from worker.engine.process import LAUNCHER

from .rig import Rig
from .strangers import Strangers

#: Pace of the engines, in seconds; jobs overlap and wait as in earnest.
PACE = {"seconds": 0.4, "load_seconds": 0.1}
#: What strikes a share of the jobs inside the engines, and of their starts.
ENGINE_CHANCES: Mapping[EngineFaultKind, float] = {
    EngineFaultKind.CRASH: 0.02,
    EngineFaultKind.SEGFAULT: 0.01,
    EngineFaultKind.HANG: 0.01,
    EngineFaultKind.OUT_OF_MEMORY: 0.03,
    EngineFaultKind.DEVICE_LOST: 0.01,
    EngineFaultKind.NODE_FAILURE: 0.02,
    EngineFaultKind.MODEL_BROKEN: 0.01,
    EngineFaultKind.FRAME_LOST: 0.03,
    EngineFaultKind.FRAME_DAMAGED: 0.03,
    EngineFaultKind.SOCKET_LOST: 0.03,
    EngineFaultKind.REFUSAL: 0.01,
    EngineFaultKind.START_FAILURE: 0.1,
}
#: What strikes a share of the looks at images, and of the checker's starts.
SAFETY_CHANCES: Mapping[SafetyFaultKind, float] = {
    SafetyFaultKind.CRASH: 0.02,
    SafetyFaultKind.HANG: 0.01,
    SafetyFaultKind.GARBAGE: 0.01,
    SafetyFaultKind.NO_VERDICT: 0.01,
    SafetyFaultKind.WRONG_IMAGE: 0.01,
    SafetyFaultKind.ERROR: 0.02,
    SafetyFaultKind.START_CRASH: 0.1,
}

_ERROR = Fault(FaultKind.STATUS, status=500)
_DOWN = Fault(FaultKind.STATUS, status=503)
_BUSY = Fault(FaultKind.STATUS, status=429)
_RESET = Fault(FaultKind.RESET)
_SILENT = Fault(FaultKind.HANG, seconds=3)
_GARBAGE = Fault(FaultKind.GARBAGE)
_CUT = Fault(FaultKind.TRUNCATED)
_DRIP = Fault(FaultKind.DRIP, seconds=2)
#: One answer each that goes wrong.
HORDE_FAULTS: Mapping[Route, tuple[Fault, ...]] = {
    Route.POP: (
        _ERROR, _DOWN, _BUSY, _RESET, _SILENT, _GARBAGE, _CUT, _DRIP,
        Fault(FaultKind.CLOCK_SKEW, seconds=-7200), Fault(FaultKind.CLOCK_SKEW, seconds=7200),
    ),
    Route.SUBMIT: (
        _ERROR, _DOWN, _BUSY, _RESET, _SILENT, _GARBAGE, _CUT, _DRIP,
        Fault(FaultKind.STATUS, status=500, after_effect=True), Fault(FaultKind.RESET, after_effect=True),
        Fault(FaultKind.HANG, seconds=2, after_effect=True),
    ),
    Route.UPLOAD: (
        _ERROR, _DOWN, _RESET, _SILENT, _DRIP, Fault(FaultKind.EXPIRED), Fault(FaultKind.STATUS, status=403),
    ),
    Route.DOWNLOAD: (
        _ERROR, _RESET, _SILENT, _GARBAGE, _CUT, Fault(FaultKind.EXPIRED), Fault(FaultKind.STATUS, status=404),
    ),
}  # fmt: skip


@dataclass
class Misfortunes:
    """Strikes a rig until cancelled, and counts."""

    rig: Rig
    chance: random.Random
    #: requests that their requester may take back
    waiting: Callable[[], Sequence[str]]
    strangers: Strangers
    #: middle of the pause between two, in seconds
    pause_s: float = 0.5
    struck: Counter[str] = field(default_factory=Counter)
    _stopped: set[int] = field(default_factory=set)

    @property
    def safety_script(self) -> Path:
        return self.rig.folder / "safety.json"

    def begin(self) -> None:
        """Let jobs fail inside the engines from now on."""
        chances = tuple(EngineFault(kind, times=None, chance=share) for kind, share in ENGINE_CHANCES.items())
        self.rig.play(**PACE, faults=chances)
        looks = tuple(SafetyFault(kind, times=None, chance=share) for kind, share in SAFETY_CHANCES.items())
        SafetyScript(faults=looks).write(self.safety_script)

    async def strike(self) -> None:
        """One after another, for ever."""
        ways: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (3, self._kill_an_engine),
            (3, self._stop_an_engine),
            (1, self._kill_the_checker),
            (20, self._spoil_an_answer),
            (15, self._send_a_stranger),
            (1, self._cut_the_network),
            (1, self._set_maintenance),
            (2, self._withdraw_a_request),
        ]
        while True:
            await asyncio.sleep(self.chance.uniform(0.2, 1.8) * self.pause_s)
            [way] = self.chance.choices([way for _, way in ways], [weight for weight, _ in ways])
            await way()

    def calm(self) -> None:
        """Nothing goes wrong any more, and what stood still goes on."""
        self.rig.horde.faults.stop()
        self.rig.play(**PACE)
        SafetyScript().write(self.safety_script)
        for pid in list(self._stopped):
            self._go_on(pid)
        for worker in self.rig.horde.state.workers():
            self.rig.horde.state.set_maintenance(worker["id"], on=False)

    @property
    def counts(self) -> Counter[str]:
        """What has struck so far, whoever struck."""
        inside = {f"engine/{kind}": count for kind, count in struck(self.rig.script_file).items()}
        looks = {f"safety/{kind}": count for kind, count in struck(self.safety_script).items()}
        return self.struck + Counter(inside) + Counter(looks) + Counter(self.rig.horde.faults.struck)

    async def _kill_an_engine(self) -> None:
        if engines := _children(of="engine"):
            self.struck["engine/kill -9"] += 1
            _signal(self.chance.choice(engines), "kill")

    async def _kill_the_checker(self) -> None:
        if checkers := _children(of="safety"):
            self.struck["safety/kill -9"] += 1
            _signal(checkers[0], "kill")

    async def _stop_an_engine(self) -> None:
        if not (engines := _children(of="engine")):
            return
        engine = self.chance.choice(engines)
        self.struck["engine/stands still"] += 1
        self._stopped.add(engine.pid)
        _signal(engine, "suspend")
        # It wakes, or is ended, long after what is asked of it meanwhile.
        asyncio.get_running_loop().call_later(self.chance.uniform(0.5, 4.0), self._go_on, engine.pid)

    def _go_on(self, pid: int) -> None:
        self._stopped.discard(pid)
        try:
            _signal(psutil.Process(pid), "resume")
        except psutil.NoSuchProcess:
            return

    async def _spoil_an_answer(self) -> None:
        # Seldom the pop: what it does not bring can't fail anywhere else.
        [route] = self.chance.choices(list(HORDE_FAULTS), weights=[1, 4, 3, 3])
        self.rig.horde.faults.inject(
            route, self.chance.choice(HORDE_FAULTS[route]), times=self.chance.choice((1, 1, 2))
        )

    async def _send_a_stranger(self) -> None:
        self.rig.horde.faults.inject(Route.POP, self.strangers.next())

    async def _cut_the_network(self) -> None:
        self.struck["network/gone"] += 1
        for route in HORDE_FAULTS:
            self.rig.horde.faults.inject(route, _RESET, times=1000)
        await asyncio.sleep(self.chance.uniform(1.0, 5.0))
        self.rig.horde.faults.stop()

    async def _set_maintenance(self) -> None:
        state = self.rig.horde.state
        for worker in state.workers():
            self.struck["horde/maintenance"] += 1
            state.set_maintenance(worker["id"], on=True)
            await asyncio.sleep(self.chance.uniform(0.3, 1.0))
            state.set_maintenance(worker["id"], on=False)

    async def _withdraw_a_request(self) -> None:
        if pending := self.waiting():
            self.struck["requester/withdraws"] += 1
            with contextlib.suppress(Refused):  # forgotten meanwhile
                self.rig.horde.state.cancel(self.chance.choice(pending), base_url=self.rig.horde.url)


def _children(*, of: str) -> list[psutil.Process]:
    """The engines or the safety checker of this process, as they are at this moment."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            is_engine = any(str(LAUNCHER) in word for word in child.cmdline())
            if is_engine == (of == "engine"):
                found.append(child)
    return found


def _signal(process: psutil.Process, what: str) -> None:
    try:
        getattr(process, what)()
    except psutil.NoSuchProcess:
        return
