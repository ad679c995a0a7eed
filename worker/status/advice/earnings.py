"""What would have earned more: sentences with a remedy, each with an estimate and what that rests on. Pure.

Every figure is what one change alone might bring, at most: requests have several reasons to pass a worker by, other
workers take their share, and what arrives and is taken between two looks is not seen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from worker.config.key_types import in_yaml
from worker.config.schema import PIXELS_PER_POWER, BridgeData
from worker.horde.arrivals import Rate
from worker.horde.demand import ModelNeed
from worker.status.snapshot import AdviceView

#: Less than this many jobs an hour are not worth a sentence.
LEAST_PER_HOUR = 0.5
#: Part of the requests with a reason that has no other, at least.
LEAST_PART = 0.02
#: Models named at most.
MOST_MODELS = 3
#: Sizes that requesters ask for by custom, as max_power: 512², 768², 1024², 1536², 2048².
POWERS: Final = (8, 18, 32, 72, 128)
SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Switch:
    """A reason of the Horde's, and the key that ends it."""

    #: continues "… jobs an hour"
    asks: str
    key: str
    #: the value that ends it, from the settings in force
    value: Callable[[BridgeData], Any]
    #: a switch without which a rule of the settings takes that value back
    needs: str = ""


def _larger(config: BridgeData) -> int:
    return next((power for power in POWERS if power > config.max_power), config.max_power * 2)


#: By the Horde's name of the reason; what is not here has no key that would change it.
SWITCHES: Final[Mapping[str, Switch]] = {
    "lora": Switch("asked for LoRAs", "allow_lora", lambda _: True),
    "controlnet": Switch("asked for a ControlNet", "allow_controlnet", lambda _: True, needs="allow_img2img"),
    "img2img": Switch("brought a picture", "allow_img2img", lambda _: True),
    "painting": Switch("were to be inpainted", "allow_painting", lambda _: True, needs="allow_img2img"),
    "post-processing": Switch("asked for post-processing", "allow_post_processing", lambda _: True),
    "nsfw": Switch("may show what is not safe for work", "nsfw", lambda _: True),
    "unsafe_ip": Switch("came from addresses that count as unsafe", "allow_unsafe_ip", lambda _: True),
    "max_pixels": Switch("asked for larger pictures (how large, the Horde does not tell)", "max_power", _larger),
    "step_count": Switch("asked for more steps", "limit_max_steps", lambda _: False),
    "kudos": Switch("came from requesters who could not pay at once", "require_upfront_kudos", lambda _: False),
    "blacklist": Switch("had a word of your blacklist in their prompt", "blacklist", lambda _: ()),
}


@dataclass(frozen=True)
class Facts:
    """What an estimate is made from."""

    config: BridgeData
    #: requests that passed the worker by, by the Horde's reasons
    reasons: Mapping[str, Rate] = field(default_factory=dict)
    #: what waits for each model
    models: Mapping[str, ModelNeed] = field(default_factory=dict)
    #: models that this worker has or will have
    own_models: frozenset[str] = frozenset()
    #: all that waits at the Horde; None: not known
    queued: float | None = None
    #: seconds that somebody looked
    watched_s: float = 0.0
    #: part of the running time in which an engine stood ready, jobs were asked for and none came
    idle: float = 1.0
    #: engines that stand ready
    engines: int = 1
    #: means of the jobs done here; None: none was
    job_s: float | None = None
    job_kudos: float | None = None
    #: bytes of memory of this machine; a model with more weights can't be served
    memory: int | None = None
    #: bytes of a model's files, where the reference says them
    size_of: Callable[[str], int | None] = lambda _: None
    #: the most of so many pixels that a picture may have, by what memory and time were learned to allow
    most_pixels: Callable[[int], int] = lambda wanted: wanted
    #: switches that are on and not offered, with the reason: no setting ends that
    not_offered: Mapping[str, str] = field(default_factory=dict)

    @property
    def room(self) -> float:
        """Jobs an hour that the idle time has room for."""
        if self.job_s is None:
            return float("inf")
        return self.idle * self.engines * SECONDS_PER_HOUR / max(self.job_s, 0.1)


def advise(facts: Facts) -> tuple[AdviceView, ...]:
    """What to change, the best first."""
    found = [*_switches(facts), *_models(facts)]
    return tuple(sorted(found, key=lambda advice: (-advice.jobs_per_hour, advice.key)))


def _switches(facts: Facts) -> Sequence[AdviceView]:
    found = []
    for reason, switch in SWITCHES.items():
        rate = facts.reasons.get(reason)
        if rate is None or reason in facts.not_offered or switch.key in facts.not_offered:
            continue
        value, present = switch.value(facts.config), getattr(facts.config, switch.key)
        if value == present or (switch.key == "max_power" and not _fits(facts, value)):
            continue
        alone = rate.per_hour * _free_of_others(facts)
        if (jobs := min(alone, facts.room)) < LEAST_PER_HOUR:
            continue
        found.append(
            AdviceView(
                topic=reason,
                key=switch.key,
                value=in_yaml(value),
                sentence=f"{_count(rate.per_hour)} jobs an hour {switch.asks}, and this worker does not take them.",
                remedy=_remedy(switch, value, facts.config),
                jobs_per_hour=jobs,
                kudos_per_hour=None if facts.job_kudos is None else jobs * facts.job_kudos,
                basis=_basis(facts),
            )
        )
    return found


def _remedy(switch: Switch, value: Any, config: BridgeData) -> str:
    if value == ():
        return "Remove words from blacklist."
    first = f"`{switch.needs}: true` and " if switch.needs and not getattr(config, switch.needs) else ""
    return f"Set {first}`{switch.key}: {in_yaml(value)}`."


def _fits(facts: Facts, power: int) -> bool:
    """Whether nothing that was learned here speaks against pictures as large as this max_power allows."""
    pixels = power * PIXELS_PER_POWER
    return facts.most_pixels(pixels) >= pixels


def _free_of_others(facts: Facts) -> float:
    """The part of the requests with this reason that has no other, so that one change brings them.

    The Horde counts each reason over the whole queue and tells nothing of overlaps. Which model is asked for has little
    to do with the rest; the other reasons are taken to overlap no more than they must. 1 where the length of the queue
    is not known.
    """
    if not facts.queued:
        return 1.0
    of_own_models = 1.0 - facts.reasons["models"].waiting / facts.queued if "models" in facts.reasons else 1.0
    held = sum(rate.waiting for other, rate in facts.reasons.items() if other != "models")
    apart = min(1.0, facts.queued / held) if held else 1.0
    # Nothing at all would come where every request asks for other models: yet some always ask for any model.
    return max(LEAST_PART, of_own_models * apart)


def _models(facts: Facts) -> Sequence[AdviceView]:
    found = []
    for need in facts.models.values():
        size = facts.size_of(need.name)
        if need.name in facts.own_models or size is None or (facts.memory is not None and size > facts.memory):
            continue
        # Who serves it already shares what comes.
        jobs = min(need.rate.per_hour / (need.served_by + 1), facts.room)
        if jobs < LEAST_PER_HOUR:
            continue
        served = f"{need.served_by:.0f} workers serve" if need.served_by >= 1 else "no worker serves"
        found.append(
            AdviceView(
                topic=f"model {need.name}",
                key="models_to_load",
                value=need.name,
                sentence=f"{_count(need.rate.per_hour)} jobs an hour ask for {need.name}, which {served}.",
                remedy=f"Add {need.name} to models_to_load.",
                jobs_per_hour=jobs,
                kudos_per_hour=None if facts.job_kudos is None else jobs * facts.job_kudos,
                disk_bytes=size or None,
                memory_bytes=size or None,
                basis=_basis(facts),
            )
        )
    return sorted(found, key=lambda advice: -advice.jobs_per_hour)[:MOST_MODELS]


def _basis(facts: Facts) -> str:
    mean = "no job was done here yet" if facts.job_s is None else f"a job takes {facts.job_s:.1f} s here"
    minutes = max(1, round(facts.watched_s / 60))
    idle = f"engines were idle {facts.idle:.0%} of the time"
    return f"An estimate from {minutes} min of the Horde's queue; {idle}; {mean}."


def _count(number: float) -> str:
    return "Less than one of the" if number < 1 else f"{number:.0f}"
