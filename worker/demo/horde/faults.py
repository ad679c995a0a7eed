"""What shall go wrong with the embedded Horde's answers: scripted, at random, or on demand. Pure and deterministic.

A plan only says which fault strikes a request; `worker.demo.horde.app` makes it happen. With the same seed and the
same order of requests the same faults strike.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum


class Route(str, Enum):
    """The kinds of requests that a fault may be aimed at."""

    POP = "pop"
    SUBMIT = "submit"
    UPLOAD = "upload"
    #: source pictures and results
    DOWNLOAD = "download"
    FIND_USER = "find_user"
    WORKERS = "workers"
    #: async, check and status: the requester's side
    REQUESTER = "requester"
    STATUS = "status"


class FaultKind(str, Enum):
    """How an answer is spoiled."""

    #: `status` with a JSON message; 429 carries Retry-After
    STATUS = "status"
    #: accepted, then silence for `seconds`, then the connection breaks
    HANG = "hang"
    #: the connection breaks at once
    RESET = "reset"
    #: 200 with something that is no JSON
    GARBAGE = "garbage"
    #: 200 with the first half of the answer
    TRUNCATED = "truncated"
    #: the true answer, byte by byte over `seconds`
    DRIP = "drip"
    #: storage: 403 as for a URL that has expired
    EXPIRED = "expired"
    #: pop: its URLs are dated `seconds` off the present; negative ones are stale
    CLOCK_SKEW = "clock_skew"
    #: in the place of the HTTP answer, the bytes that `rewrite` makes of its body
    HOSTILE = "hostile"


#: Kinds that spoil the server's own answer, so that the request takes its effect in any case.
AFTER_EFFECT = frozenset({FaultKind.GARBAGE, FaultKind.TRUNCATED, FaultKind.DRIP, FaultKind.CLOCK_SKEW})


@dataclass(frozen=True)
class Fault:
    """One spoiled answer."""

    kind: FaultKind
    status: int = 500
    #: how long it hangs or drips, or how far the clock is off
    seconds: float = 30.0
    #: for STATUS, HANG and RESET: the request takes its effect and only the answer is lost; for HOSTILE: it takes its
    #: effect, and an answer without job ids stays as it is
    after_effect: bool = False
    #: with status 429
    retry_after_s: int = 1
    #: for HOSTILE; job ids in the answer must stay readable, for the books expect an answer to them
    rewrite: Callable[[bytes], bytes] = bytes

    @property
    def takes_effect(self) -> bool:
        """Does the server do what was asked before things go wrong?"""
        return self.after_effect or self.kind in AFTER_EFFECT


@dataclass(frozen=True)
class Scripted:
    """`fault` strikes the `nth` request (from 1) to `route`."""

    route: Route
    nth: int
    fault: Fault


@dataclass(frozen=True)
class Chance:
    """`fault` strikes requests to `route` with this probability."""

    route: Route
    probability: float
    fault: Fault


class FaultPlan:
    """Faults by script, then on demand, then by chance; the first that applies strikes. May be used from any thread."""

    def __init__(self, scripted: Sequence[Scripted] = (), chances: Sequence[Chance] = (), *, seed: int = 0) -> None:
        self._scripted = {(entry.route, entry.nth): entry.fault for entry in scripted}
        self._chances = tuple(chances)
        self._random = random.Random(seed)
        self._pending: dict[Route, deque[Fault]] = {route: deque() for route in Route}
        self._seen: Counter[Route] = Counter()
        self._struck: Counter[tuple[Route, FaultKind]] = Counter()
        self._lock = threading.Lock()

    def inject(self, route: Route, fault: Fault, *, times: int = 1) -> None:
        """Strikes the next `times` requests to `route`."""
        with self._lock:
            self._pending[route].extend([fault] * times)

    def stop(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._scripted, self._chances = {}, ()
            for pending in self._pending.values():
                pending.clear()

    def strike(self, route: Route) -> Fault | None:
        """What strikes the request that has just come; counts it."""
        with self._lock:
            self._seen[route] += 1
            fault = self._choose(route)
            if fault is not None:
                self._struck[route, fault.kind] += 1
            return fault

    @property
    def struck(self) -> dict[str, int]:
        """How often what struck, as `route/kind`."""
        with self._lock:
            return {f"{route.value}/{kind.value}": count for (route, kind), count in sorted(self._struck.items())}

    def seen(self, route: Route) -> int:
        """Requests to a route so far, struck or not."""
        with self._lock:
            return self._seen[route]

    def _choose(self, route: Route) -> Fault | None:
        scripted = self._scripted.get((route, self._seen[route]))
        if scripted is not None:
            return scripted
        if self._pending[route]:
            return self._pending[route].popleft()
        rolls = [(chance, self._random.random()) for chance in self._chances if chance.route is route]
        return next((chance.fault for chance, roll in rolls if roll < chance.probability), None)
