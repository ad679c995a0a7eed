"""What was predicted for a setting, held against what came after its owner changed it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from worker.bounded_dict import BoundedDict
from worker.config.schema import PIXELS_PER_POWER, BridgeData
from worker.status.snapshot import AdviceView, JobRecord, Outcome, PredictionView

#: Changes followed at a time, and for how long, in seconds.
MOST_FOLLOWED = 20
FOLLOWED_S = 24 * 3600.0
HOUR_S = 3600.0

#: Whether a job came only because a key was changed, from the settings before; keys that leave no mark on jobs
#: (nsfw, blacklist …) are not followed.
MARKS: Final[Mapping[str, Callable[[JobRecord, BridgeData], bool]]] = {
    "allow_lora": lambda job, _: "lora" in job.features,
    "allow_controlnet": lambda job, _: "controlnet" in job.features,
    "allow_post_processing": lambda job, _: "post_processing" in job.features,
    "allow_img2img": lambda job, _: job.kind == "img2img",
    "allow_painting": lambda job, _: job.kind in ("inpainting", "outpainting"),
    "max_power": lambda job, before: job.width * job.height > before.max_power * PIXELS_PER_POWER,
}


@dataclass
class _Followed:
    advice: AdviceView
    #: the settings before the change
    before: BridgeData
    since: float
    came: int = 0

    def counts(self, job: JobRecord) -> bool:
        """Whether the change has brought this job."""
        if self.advice.key == "models_to_load":
            return job.model == self.advice.value
        return MARKS[self.advice.key](job, self.before)


@dataclass(eq=False)
class Predictions:
    """Bounded; the earliest is forgotten."""

    wall: Callable[[], float]
    _followed: BoundedDict[str, _Followed] = field(default_factory=lambda: BoundedDict(MOST_FOLLOWED), init=False)

    def changed(self, before: BridgeData, after: BridgeData, advice: tuple[AdviceView, ...]) -> None:
        """The settings have changed; `advice` is what was said before."""
        for topic, followed in tuple(self._followed.items()):
            if not _taken(followed.advice, followed.before, after):
                del self._followed[topic]
        for each in advice:
            if _taken(each, before, after):
                self._followed[each.topic] = _Followed(each, before, self.wall())

    def ended(self, job: JobRecord) -> None:
        for followed in self._followed.values():
            if job.outcome is Outcome.DONE and job.popped_at >= followed.since and followed.counts(job):
                followed.came += 1

    def views(self) -> tuple[PredictionView, ...]:
        """What is followed, the latest first."""
        now = self.wall()
        return tuple(
            PredictionView(
                topic=each.advice.topic,
                sentence=_sentence(each, now),
                since=each.since,
                predicted_per_hour=each.advice.jobs_per_hour,
                came=each.came,
            )
            for each in reversed(tuple(self._followed.values()))
            if now - each.since <= FOLLOWED_S
        )


def _taken(advice: AdviceView, before: BridgeData, after: BridgeData) -> bool:
    """Whether the settings `after` follow advice that was given on those `before`."""
    if advice.key == "models_to_load":
        return advice.value in after.models_to_load and advice.value not in before.models_to_load
    if advice.key not in MARKS:
        return False
    # Every key with a mark is a switch to be turned on or a number to be raised.
    return bool(getattr(after, advice.key) > getattr(before, advice.key))


def _sentence(followed: _Followed, now: float) -> str:
    since_s, advice = max(60.0, now - followed.since), followed.advice
    said = f"{advice.key} was changed {since_s / 60:.0f} min ago: up to {advice.jobs_per_hour:.0f} jobs an hour"
    rate = "" if since_s < HOUR_S else f" ({followed.came * HOUR_S / since_s:.0f} an hour)"
    return f"{said} were predicted, {followed.came} came{rate}."
