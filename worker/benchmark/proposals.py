"""Settings from measurements, each with the measurement that it rests on. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.benchmark.measurements import STEPS, End, Findings, Measured, Subject
from worker.benchmark.plan import limit_s, native_side
from worker.config.schema import BridgeData
from worker.demo.horde.records import Baseline
from worker.demo.horde.rules import kudos_of
from worker.setup.card import MachineFacts
from worker.setup.tiers import SMALL_RAM, tier_of
from worker.units import GIB
from worker.workflows.families import TRAITS

#: What the Horde's people ask of a worker: below this an owner sets extra_slow_worker; and an hour's kudos that make a
#: worker worth its card (README of horde-worker-reGen 10.1.1).
LEAST_MPS, LEAST_KUDOS_PER_HOUR = 0.3, 3000
#: Megapixelsteps a second in terms of SD1.5 from which the modes pay: an RTX 4080 does 25 steps of 512x512 a second,
#: an RTX 3080 some 15.
FAST_MPS, MODERATE_MPS = 6.0, 3.5
#: A batch pays if its pictures are not slower than single ones by more than this.
_BATCH_LOSS: Final = 1.1
#: Two jobs at the same time must bring this much more together.
_THREADS_GAIN: Final = 1.15
#: A job so short is over before the next one is popped.
_SHORT_JOB_S: Final = 4.0
#: Memory of the card for the safety checker.
_SAFETY_BYTES: Final = 2 * GIB
#: What a card needs beside weights and sampling.
_SPARE_BYTES: Final = 2 * GIB


@dataclass(frozen=True)
class Proposal:
    """A setting, what it is now, what it should be, and why."""

    key: str
    now: Any
    value: Any
    why: str

    @property
    def changes(self) -> bool:
        now = list(self.now) if isinstance(self.now, tuple) else self.now
        return bool(now != self.value)


@dataclass(frozen=True)
class Demand:
    """A model's ordinary job held against what the Horde asks for."""

    model: str
    size: str
    seconds: float
    mps: float
    kudos_per_hour: float
    memory: int
    real: bool

    @property
    def fast_enough(self) -> bool:
        return self.mps >= LEAST_MPS

    @property
    def earns_enough(self) -> bool:
        return self.kudos_per_hour >= LEAST_KUDOS_PER_HOUR


def demands(findings: Findings) -> list[Demand]:
    """Each model's ordinary job: the size it is made for, or the largest that works below that."""
    found = []
    for subject in findings.subjects:
        made = [each for each in _of(findings, subject) if each.made and each.shot.batch == 1]
        if made:
            best = next((each for each in made if each.shot.width == native_side(subject)), made[-1])
            found.append(_demand(subject, best))
    return found


def _demand(subject: Subject, best: Measured) -> Demand:
    params = {"width": best.shot.width, "height": best.shot.height, "steps": STEPS, "sampler_name": "k_euler"}
    baseline = next((each for each in Baseline if each.value.replace(" ", "_") == subject.family.value), None)
    kudos = kudos_of(params, baseline=baseline) * 3600 / best.seconds if best.seconds else 0.0
    size = f"{best.shot.width}x{best.shot.height}"
    return Demand(
        subject.model, size, best.seconds, best.megapixelsteps_per_s, kudos, best.memory, real=subject.real
    )  # fmt: skip


def propose(findings: Findings, machine: MachineFacts, config: BridgeData) -> list[Proposal]:
    """Settings that follow; without real models only those that the machine's memory decides."""
    tier = tier_of(machine)
    real = [subject for subject in findings.subjects if subject.real]
    if not real:
        why = f"to begin with, for {tier.title}: no model of yours is here, so nothing was measured"
        return [_proposal(config, key, value, why) for key, value in tier.settings.items()]
    speeds = [each.megapixelsteps_per_s for subject in real for each in _of(findings, subject) if each.made]
    slow = bool(speeds) and max(speeds) < LEAST_MPS
    return list(_View(findings, slow=slow).proposals(machine, config, real))


@dataclass(frozen=True)
class _View:
    """What was found, judged by the time that a worker of this speed is given."""

    findings: Findings
    #: too slow for ordinary requesters
    slow: bool

    def proposals(self, machine: MachineFacts, config: BridgeData, real: Sequence[Subject]) -> Iterator[Proposal]:
        kept = [subject for subject in real if self._serves(subject)]
        tried = [subject for subject in real if _of(self.findings, subject)]
        if not kept:
            # Leaving everything out would leave no worker: its owner has to choose other models, or none.
            why = "; ".join(f"{subject.model}: {self._failure(subject)}" for subject in tried)
            if tried:
                yield _proposal(config, "extra_slow_worker", self.slow, f"no model can be served in time ({why})")
            return
        if left_out := [subject for subject in tried if subject not in kept]:
            names = dict.fromkeys(name for subject in left_out for name in (subject.stands_for or (subject.model,)))
            why = "; ".join(f"{subject.family.value}: {self._failure(subject)}" for subject in left_out)
            yield _proposal(config, "models_to_skip", list(dict.fromkeys([*config.models_to_skip, *names])), why)
        yield self._slowness(config, kept)
        yield self._power(config, kept)
        if self.slow:
            for key, value in (("max_batch", 1), ("max_threads", 1), ("queue_size", 0)):
                yield _proposal(config, key, value, "extra_slow_worker is on")
            return
        yield self._batch(config, kept)
        yield self._threads(config)
        yield self._queue(machine, config, kept)
        yield from self._modes(machine, config, kept)

    def _slowness(self, config: BridgeData, kept: Sequence[Subject]) -> Proposal:
        compared = "below" if self.slow else "above"
        speed = max(map(self._fastest, kept))
        why = f"{speed:.2f} megapixelsteps a second at best, {compared} the {LEAST_MPS} that are asked for"
        return _proposal(config, "extra_slow_worker", self.slow, why)

    def _power(self, config: BridgeData, kept: Sequence[Subject]) -> Proposal:
        """The largest size that every model kept can do: the Horde knows one figure for all of them."""
        largest = {subject: max(self._good(subject), key=lambda each: each.shot.pixels) for subject in kept}
        bound = min(largest, key=lambda subject: largest[subject].shot.pixels)
        shot, seconds = largest[bound].shot, largest[bound].seconds
        larger = (each for each in _of(self.findings, bound) if each.shot.batch == 1 and each.shot.pixels > shot.pixels)
        failed = next((each for each in larger if not self._in_time(each)), None)
        beyond = f"; {failed.shot.width}x{failed.shot.height}: {_end(failed)}" if failed else ""
        why = f"{bound.model} makes {shot.width}x{shot.height} in {seconds:.1f} s{beyond}"
        return _proposal(config, "max_power", shot.power, why)

    def _batch(self, config: BridgeData, kept: Sequence[Subject]) -> Proposal:
        best, why = min((self._best_batch(subject) for subject in kept), key=lambda found: found[0])
        return _proposal(config, "max_batch", best, why)

    def _best_batch(self, subject: Subject) -> tuple[int, str]:
        """The largest batch whose pictures are not slower than single ones, and why not more."""
        native = [each for each in _of(self.findings, subject) if each.shot.width == native_side(subject)]
        alone = next(each.seconds for each in native if each.shot.batch == 1)
        best, why = 1, f"{subject.model}: no batch was tried"
        for each in (each for each in native if each.shot.batch > 1):
            many, a_picture = f"{subject.model}: {each.shot.batch} at once", each.seconds / each.shot.batch
            if not self._in_time(each):
                return best, f"{many}: {_end(each)}"
            if a_picture > alone * _BATCH_LOSS:
                return best, f"{many} take {a_picture:.1f} s each, one alone {alone:.1f} s"
            best, why = each.shot.batch, f"{many} take {each.seconds:.1f} s, one alone {alone:.1f} s"
        return best, why

    def _threads(self, config: BridgeData) -> Proposal:
        best, together = 1, self.findings.together
        for count, gain in sorted(together.items()):
            if gain >= _THREADS_GAIN * together.get(best, 1.0):
                best = count
        told = ", ".join(f"{count} engines do {gain:.2f} times the work of one" for count, gain in together.items())
        return _proposal(config, "max_threads", best, told or "two jobs at a time need the memory of two models")

    def _queue(self, machine: MachineFacts, config: BridgeData, kept: Sequence[Subject]) -> Proposal:
        shortest = min(each.seconds for subject in kept for each in self._good(subject))
        job = f"the shortest job takes {shortest:.1f} s"
        if machine.ram < SMALL_RAM:
            return _proposal(config, "queue_size", 0, f"{machine.ram / GIB:.0f} GiB of RAM hold one model at a time")
        if shortest < _SHORT_JOB_S:
            return _proposal(config, "queue_size", 2, f"{job}; the next one takes as long to come")
        return _proposal(config, "queue_size", 1, f"{job}, time enough to fetch one more")

    def _modes(self, machine: MachineFacts, config: BridgeData, kept: Sequence[Subject]) -> Iterator[Proposal]:
        speed = max(self._fastest(subject) * TRAITS[subject.family].cost for subject in kept)
        why = f"{speed:.1f} megapixelsteps a second in terms of SD1.5"
        yield _proposal(config, "high_performance_mode", speed >= FAST_MPS, f"{why}; it pays from {FAST_MPS:g} on")
        moderate = MODERATE_MPS <= speed < FAST_MPS
        yield _proposal(config, "moderate_performance_mode", moderate, f"{why}; it pays from {MODERATE_MPS:g} on")
        tier = tier_of(machine)
        needed = max((each.memory for subject in kept for each in self._good(subject)), default=0)
        room = f"sampling took up to {needed / GIB:.1f} GiB beside the weights; {machine}" if needed else str(machine)
        total = machine.card.memory if machine.card else 0
        for key in ("high_memory_mode", "safety_on_gpu"):
            # What the size of the card allows, unless what was measured leaves no room for it.
            fits = needed + _SAFETY_BYTES + _SPARE_BYTES <= total
            yield _proposal(config, key, bool(tier.settings[key]) and fits, room)
        yield _proposal(config, "unload_models_from_vram_often", tier.settings["unload_models_from_vram_often"], room)

    def _in_time(self, each: Measured) -> bool:
        return each.made and each.seconds <= limit_s(each.shot, extra_slow=self.slow)

    def _good(self, subject: Subject) -> list[Measured]:
        return [each for each in _of(self.findings, subject) if each.shot.batch == 1 and self._in_time(each)]

    def _serves(self, subject: Subject) -> bool:
        """Whether it makes pictures of the size it is for; smaller ones alone are asked for by nobody."""
        return any(each.shot.width >= native_side(subject) for each in self._good(subject))

    def _fastest(self, subject: Subject) -> float:
        return max(each.megapixelsteps_per_s for each in self._good(subject))

    def _failure(self, subject: Subject) -> str:
        failed = next(each for each in _of(self.findings, subject) if not self._in_time(each))
        return f"{failed.shot.width}x{failed.shot.height}: {_end(failed)}"


def _proposal(config: BridgeData, key: str, value: Any, why: str) -> Proposal:
    return Proposal(key, getattr(config, key), value, why)


def _of(findings: Findings, subject: Subject) -> list[Measured]:
    return [each for each in findings.measured if each.shot.model == subject.model]


def _end(each: Measured) -> str:
    if each.end is End.MADE:
        return f"{each.seconds:.0f} s, longer than the Horde waits"
    return str(each.end.value) + (f" ({each.why})" if each.why else "")
