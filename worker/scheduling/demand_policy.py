"""Which of the owner's models are offered, by what is asked for now. Pure.

A model counts by the jobs that it is good for: those that wait for it, shared with the threads of others that serve it,
and those that it brought of late. One in service gives its place up only to one that is good for clearly more, and not
before its time: every change may mean that gigabytes are loaded anew. One that is good for nothing costs nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from worker.horde.demand import Asked

#: What is good for less is not worth a load: half of one job.
LEAST_WORTH: Final = 0.5
#: A clear gain: so many times what the model in service is good for.
CLEAR_GAIN: Final = 2.0
#: A model that is good for less is not worth a download.
LEAST_FETCHED: Final = 1.0


@dataclass(frozen=True)
class ChoiceTimes:
    """Seconds."""

    #: for which a chosen model is served at least
    stay_s: float = 600.0
    #: the same where it is good for nothing any more
    useless_stay_s: float = 120.0
    #: for which a job counts that a model brought: two looks at the Horde
    brought_s: float = 120.0
    #: in which an idle engine asks in vain until what waits for the chosen models counts as not for this worker, and
    #: how long it does
    in_vain_s: float = 120.0
    passed_over_s: float = 1800.0
    #: for which a model that is not here must be asked for until it is fetched
    fetch_after_s: float = 900.0


@dataclass(frozen=True)
class Worth:
    """Jobs that a model is good for: by the last look, and by what has lasted since the one before it."""

    now: float
    lasting: float


NOTHING: Final = Worth(0.0, 0.0)


def worth(asked: Asked | None, *, own_threads: float = 0.0, brought: int = 0) -> Worth:
    """Jobs that a model is good for. `own_threads`: those among its threads that are this worker's."""
    if asked is None:
        return Worth(brought, brought)
    sharers = others(asked, own_threads) + 1.0
    return Worth(asked.jobs / sharers + brought, asked.lasting / sharers + brought)


def others(asked: Asked, own_threads: float) -> float:
    """Threads of other workers that serve a model."""
    return max(0.0, asked.served_by - own_threads)


def choose(
    candidates: Sequence[str],
    worths: Mapping[str, Worth],
    served: Mapping[str, float],
    *,
    most: int,
    now: float,
    times: ChoiceTimes,
) -> dict[str, float]:
    """The candidates to offer, `most` at most, each with since when.

    `candidates` are in the owner's order, which decides between equals. `served`: the last choice. A model that is
    taken for want of a better one has no time of its own: any that is asked for may have its place.
    """
    place = {name: number for number, name in enumerate(candidates)}

    def good(name: str) -> float:
        return worths.get(name, NOTHING).now

    def rank(name: str) -> tuple[float, int]:
        return -good(name), place[name]

    kept = {name: min(since, now) for name, since in served.items() if name in place}
    while len(kept) > max(most, 0):
        del kept[max(kept, key=rank)]
    absent = sorted(place.keys() - kept.keys(), key=rank)
    while absent and len(kept) < most:
        name = absent.pop(0)
        kept[name] = now if good(name) >= LEAST_WORTH else float("-inf")
    for name in absent:
        movable = [old for old, since in kept.items() if now - since >= _stay_s(good(old), times)]
        if not movable:
            break
        weakest = max(movable, key=rank)
        # What may be gone soon is good enough in place of nothing.
        gain = good(name) if good(weakest) < LEAST_WORTH else worths.get(name, NOTHING).lasting
        if gain >= max(LEAST_WORTH, CLEAR_GAIN * good(weakest)):
            del kept[weakest]
            kept[name] = now
    return kept


def passed_over(
    served: Mapping[str, float], worths: Mapping[str, Worth], *, in_vain_s: float, now: float, times: ChoiceTimes
) -> Collection[str]:
    """Chosen models for which jobs wait that never come here: their requests want what this worker does not do."""
    if in_vain_s < times.in_vain_s:
        return ()
    return [
        name
        for name, since in served.items()
        if worths.get(name, NOTHING).lasting > 0.0 and now - since >= times.in_vain_s
    ]


def wanted_since(
    absent: Sequence[str],
    worths: Mapping[str, Worth],
    served: Mapping[str, float],
    before: Mapping[str, float],
    *,
    most: int,
    now: float,
) -> dict[str, float]:
    """The models that are not here and would have a place if they were, each with since when.

    `worths` are of these and of `served`, the last choice; `before`: the last answer.
    """
    weakest = min((worths.get(name, NOTHING).now for name in served), default=0.0) if len(served) >= most else 0.0
    least = max(LEAST_FETCHED, CLEAR_GAIN * weakest)
    return {name: min(before.get(name, now), now) for name in absent if worths.get(name, NOTHING).lasting >= least}


def _stay_s(good_for: float, times: ChoiceTimes) -> float:
    return times.stay_s if good_for >= LEAST_WORTH else times.useless_stay_s
