"""What the owner should look at, worked out from what is true now. Each lasts as long as its cause."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from worker.jobs.flat_pictures import REMEDY
from worker.status.snapshot import Machine, ModelView, SlotView, Standing, WarningView
from worker.units import GIB, counted
from worker.untrusted.text import visible

#: Failures of one engine from which on it counts as failing again and again.
MANY_FAILURES = 3
#: An engine that has not failed for so many seconds is sound again.
SOUND_AGAIN_S = 1800.0
#: Free disk below this many times what must be free is little.
LOW_DISK = 3
#: Models that a sentence names at most.
MOST_NAMED = 5
#: Sentences on the choice of models that are said at most, and characters of each.
MOST_SAID, LONGEST_DOUBT = 3, 300

#: topic, sentence, remedy
Finding = tuple[str, str, str]


@dataclass(eq=False)
class WarningBook:
    """Remembers since when each warning holds."""

    wall: Callable[[], float]
    _since: dict[str, float] = field(default_factory=dict, init=False)
    #: by slot: its failures at the last look, and when they became more
    _failures: dict[int, tuple[int, float]] = field(default_factory=dict, init=False)

    def current(self, slots: Sequence[SlotView], others: Iterable[Finding]) -> tuple[WarningView, ...]:
        """The warnings that hold now, the oldest first: of the engines that are ailing, and `others`."""
        now = self.wall()
        ailing = [slot for slot in slots if self._is_ailing(slot, now)]
        all_found = (*engines(ailing), *others)
        found = {topic: (topic, sentence, remedy) for topic, sentence, remedy in all_found}
        self._since = {topic: self._since.get(topic, now) for topic in found}
        made = (WarningView(*finding, since=self._since[topic]) for topic, finding in found.items())
        return tuple(sorted(made, key=lambda warning: warning.since))

    def _is_ailing(self, slot: SlotView, now: float) -> bool:
        """Whether it is down, or failed again and again until a while ago."""
        count, since = self._failures.get(slot.number, (0, now))
        if slot.failures != count:
            since = now
        self._failures[slot.number] = slot.failures, since
        often = slot.failures >= MANY_FAILURES and now - since < SOUND_AGAIN_S
        return often or slot.state in {"resting", "stuck"}


def engines(slots: Sequence[SlotView]) -> Iterator[Finding]:
    """Engines that fail."""
    for slot in slots:
        failed = f"failed {counted(slot.failures, 'time')}" if slot.failures else f"is {slot.state}"
        why = f": {slot.reason.rstrip('.')}" if slot.reason else ""
        yield (
            f"engine {slot.number}",
            f"Engine {slot.number} ({slot.device}) {failed}{why}.",
            slot.remedy or "Its log says why.",
        )


def findings(
    models: Sequence[ModelView],
    standing: Standing,
    machine: Machine,
    flat: Mapping[str, int],
    doubts: Sequence[str],
) -> Iterator[Finding]:
    """Everything else that is not as it should be.

    `flat`: jobs in a row with pictures of one colour, by model. `doubts`: see `ModelsState`.
    """
    free, needed = machine.disk_free_bytes, machine.disk_needed_bytes
    if free is not None and free < LOW_DISK * needed:
        yield (
            "disk",
            f"Only {free / GIB:.1f} GiB are free on the disk that the engines write to.",
            f"Make room: with less than {needed / GIB:.0f} GiB no jobs are taken.",
        )
    if failed := [model for model in models if model.state == "failed"]:
        named = "; ".join(f"{model.name} ({model.reason})" for model in failed[:MOST_NAMED])
        yield "models", f"{len(failed)} of the models can't be served: {named}.", "See `horde-bridge models list`."
    if doubts:
        more = [f"And {len(doubts) - MOST_SAID} more."] if len(doubts) > MOST_SAID else []
        said = " ".join((*(visible(each, longest=LONGEST_DOUBT) for each in doubts[:MOST_SAID]), *more))
        yield "choice of models", said, "`horde-bridge models list` shows what is known."
    if flat:
        named = ", ".join(f"{model} ({counted(jobs, 'job')})" for model, jobs in list(flat.items())[:MOST_NAMED])
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
