"""Whether a job that an engine failed gets another try. Pure: times come in as seconds."""

from dataclasses import dataclass

from worker.consequences import consequence_of
from worker.errors import EngineError, Retry


@dataclass(frozen=True)
class RenderRetries:
    """Limits to the tries of one job."""

    #: tries that an engine began; the Horde counts a fault and a late answer the same, so more only cost other jobs
    attempts: int = 2
    #: tries in all: one that ended before the engine came to the job says nothing of the job
    most_attempts: int = 4
    #: a retry needs at least this share of what the failed attempt took, before the ttl ends
    share_of_first: float = 1.0

    def next_try(self, error: EngineError, *, attempt: int, took_s: float, left_s: float) -> Retry:
        """How to try again after `attempt` tries that an engine began, with `left_s` seconds to go.

        `took_s` is what the engine spent on the last one before it failed: 0 where it had not begun with it.
        """
        if attempt >= self.attempts or left_s <= took_s * self.share_of_first:
            return Retry.NO
        return consequence_of(error).retry
