"""Models that are not offered for a while because engines broke while they worked for them. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from worker.bounded_dict import BoundedDict
from worker.circuit_breaker import CircuitBreaker
from worker.scheduling.device_limits import SizeLimit

#: Models remembered at most.
MOST_MODELS = 512
#: Three engines broken within an hour without a success between: not offered for 5 minutes, then 10, … up to an hour.
BREAKER: Callable[[], CircuitBreaker] = partial(
    CircuitBreaker, limit=3, window_s=3600.0, open_s=300.0, longest_open_s=3600.0
)


@dataclass
class ModelCooldowns:
    """A circuit breaker for each model. Times are seconds of a monotonic clock."""

    breaker: Callable[[], CircuitBreaker] = BREAKER
    _breakers: BoundedDict[str, CircuitBreaker] = field(default_factory=lambda: BoundedDict(MOST_MODELS), init=False)

    def failed(self, model: str, now: float, why: str) -> bool:
        """An engine broke while it worked for this model; whether the model is not offered from now on."""
        breaker = self._breakers[model] = self._breakers.get(model) or self.breaker()
        return breaker.failed(now, why)

    def succeeded(self, model: str) -> None:
        self._breakers.pop(model, None)

    def limit_of(self, model: str, now: float) -> SizeLimit | None:
        """A limit of no pixels while the model is not to be offered, else None."""
        breaker = self._breakers.get(model)
        if breaker is None or not breaker.is_open(now):
            return None
        return SizeLimit(0, f"it broke {breaker.limit} engines in a row, the last by: {breaker.reason.rstrip('.')}")
