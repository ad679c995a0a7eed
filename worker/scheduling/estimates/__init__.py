"""What was learned per model and device, in one place: `Estimates`, injected into the engine pool and the planner."""

from worker.scheduling.estimates.estimates import Estimates

__all__ = ["Estimates"]
