"""What the owner should look at, worked out from what is true now. Each lasts as long as its cause."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from worker.jobs.flat_pictures import REMEDY
from worker.status.model import ModelView, SlotView, Standing, WarningView
from worker.untrusted.text import visible

#: Failures of one engine from which on it counts as failing again and again.
MANY_FAILURES = 3
#: Models that a sentence names at most.
MOST_NAMED = 5
NOTHING: Mapping[str, int] = MappingProxyType({})

#: topic, sentence, remedy
Finding = tuple[str, str, str]


class WarningBook:
    """Remembers since when each warning holds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._since: dict[str, float] = {}

    def current(
        self,
        *,
        slots: Sequence[SlotView],
        models: Sequence[ModelView],
        standing: Standing,
        flat: Mapping[str, int] = NOTHING,
    ) -> tuple[WarningView, ...]:
        """The warnings that hold now, the oldest first. `flat`: jobs in a row with pictures of one colour, by model."""
        all_found = findings(slots, models, standing, flat)
        found = {topic: (topic, sentence, remedy) for topic, sentence, remedy in all_found}
        now = self._wall()
        self._since = {topic: self._since.get(topic, now) for topic in found}
        made = (WarningView(*finding, since=self._since[topic]) for topic, finding in found.items())
        return tuple(sorted(made, key=lambda warning: warning.since))


def findings(
    slots: Sequence[SlotView], models: Sequence[ModelView], standing: Standing, flat: Mapping[str, int]
) -> Iterator[Finding]:
    """Everything that is not as it should be."""
    for slot in slots:
        if slot.state in {"resting", "stuck"} or slot.failures >= MANY_FAILURES:
            yield (
                f"engine {slot.number}",
                f"Engine {slot.number} ({slot.device}) failed {slot.failures} times: {slot.reason.rstrip('.')}.",
                slot.remedy or "Its log says why.",
            )
    if failed := [model for model in models if model.state == "failed"]:
        named = "; ".join(f"{model.name} ({model.reason})" for model in failed[:MOST_NAMED])
        yield "models", f"{len(failed)} of the models can't be served: {named}.", "See `horde-bridge models list`."
    if flat:
        named = ", ".join(f"{model} ({jobs} jobs)" for model, jobs in list(flat.items())[:MOST_NAMED])
        yield "flat pictures", f"Nothing but pictures of a single colour came of {visible(named)}.", REMEDY
    if standing.paused:
        yield (
            "paused by a moderator",
            "A moderator of the Horde has paused this worker.",
            "Ask on the Horde's Discord for the reason.",
        )
    if standing.maintenance:
        yield (
            "maintenance",
            "The worker is in maintenance mode: only its owner's own jobs come.",
            "When the cause is mended: `horde-bridge maintenance off`.",
        )
