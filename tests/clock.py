"""A clock that a test moves by hand."""

from dataclasses import dataclass


@dataclass
class ManualClock:
    """Give it to whoever takes a `worker.clock.Clock`."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
