"""Who is to blame for pictures of NaN: a model, or the engine and its card. Pure.

One such picture says nothing: a model, its VAE, a LoRA, a requester's numbers, a speed flag, a card that is clocked too
high give the same. Rows of them tell. What fails everywhere is the model's; what fails on one engine with models that
are sound elsewhere, or with several models and no good picture between, is that engine's.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from worker.bounded_dict import BoundedDict

#: Jobs in a row on one engine, none of them rendered, that say something of it.
JOBS_IN_A_ROW: Final = 3
#: Models among them that say it, where no other engine rendered one of them.
LEAST_MODELS: Final = 2
#: What is older says nothing any more, in seconds.
WINDOW_S: Final = 3600.0
#: Failures remembered of one engine, and models that an engine rendered.
MOST_FAILURES: Final = 32
MOST_RENDERED: Final = 512


@dataclass(frozen=True)
class _Failure:
    at: float
    model: str


class NanEvidence:
    """What engines made of models, as far as it tells whose the NaN is. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        #: by engine: its failures since its last good picture
        self._rows: dict[int, deque[_Failure]] = {}
        #: when an engine last rendered a model
        self._rendered: BoundedDict[tuple[int, str], float] = BoundedDict(MOST_RENDERED)

    def rendered(self, engine: int, model: str, now: float) -> None:
        """An engine gave good pictures: neither it nor the model is under suspicion."""
        self._rendered[engine, model] = now
        self._rows.pop(engine, None)

    def failed(self, engine: int, model: str, now: float) -> Collection[str]:
        """An engine gave NaN for a job without additions. The models that speak against it, when they suffice.

        Call it once for each job, however often the engine tried it.
        """
        row = self._rows.setdefault(engine, deque(maxlen=MOST_FAILURES))
        row.append(_Failure(now, model))
        while row[0].at <= now - WINDOW_S:
            row.popleft()
        failed_elsewhere = {
            each.model
            for other, failures in self._rows.items()
            for each in failures
            if other != engine and each.at > now - WINDOW_S
        }
        speaking = [each.model for each in row if each.model not in failed_elsewhere]
        models = set(speaking)
        enough_models = len(models) >= LEAST_MODELS or any(self._is_sound(each, engine, now) for each in models)
        return models if len(speaking) >= JOBS_IN_A_ROW and enough_models else ()

    def _is_sound(self, model: str, engine: int, now: float) -> bool:
        """Whether another engine rendered it lately."""
        return any(
            name == model and other != engine and at > now - WINDOW_S for (other, name), at in self._rendered.items()
        )
