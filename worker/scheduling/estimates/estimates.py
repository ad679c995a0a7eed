"""Everything learned per model and device while the worker runs.

One object, made before pool and planner: the pool tells it what became of tries and asks it where a job fits, the
planner asks it what may be asked for. All of it is bounded, and outweighed or forgotten within minutes.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

from worker.after_fault import SetsAside, after_fault
from worker.clock import Clock, monotonic
from worker.config.schema import BridgeData
from worker.engine.events import MemoryNeed
from worker.engine.render_task import PoolEstimates, Rendering, RenderTask
from worker.engine.slot import EngineSlot
from worker.engine.stall_detector import FIRST_MARGIN, Phase, StallLimits
from worker.errors import EngineError, OutOfMemory
from worker.jobs.job import Job, JobEvent, Stage
from worker.scheduling.device_limits import SizeLimit, tightest
from worker.scheduling.estimates.cooldowns import ModelCooldowns
from worker.scheduling.estimates.idle_forecast import Forecast
from worker.scheduling.estimates.memory import MemoryNeeds, OutOfMemoryLimits
from worker.scheduling.estimates.speed import JobTimes, SamplerSpeed, UpscaleSpeed, work_of
from worker.scheduling.estimates.ttl import TimeLimits
from worker.workflows.request import RenderRequest, ServedModel

#: A model that is slow by what little is known, or was some minutes ago, is tried with pictures of this size at most:
#: the smallest that requesters ask for all the time.
TRIAL_PIXELS = 512 * 512
#: Classes of the nodes that work on finished pictures.
POST_PROCESSING_NODES = frozenset({
    "HordeFaceRestore", "HordeImageUpscale", "HordeStripBackground", "ImageUpscaleWithModel",
})  # fmt: skip
#: What decoding, checking, encoding and sending take of a job's time, generously.
DELIVERY_S = 30.0
#: What speaks against a model; with a requester's additions in the job it may be one of those.
MODEL_EVIDENCE = frozenset(
    {SetsAside.MODEL_BY_EVIDENCE, SetsAside.MODEL_OR_ENGINE, SetsAside.MODEL_FILE, SetsAside.MODEL}
)
#: It is tried on an engine that is free as soon as this.
TRIAL_START_S = 5.0
#: Factor of all stall limits for an extra slow worker.
EXTRA_SLOW_PATIENCE = 3.0


NO_LIMITS = (None, None, None, None)


def stall_limits_s(config: BridgeData) -> dict[Phase, float]:
    """Seconds without progress that the settings allow, by phase."""
    slowness = EXTRA_SLOW_PATIENCE if config.extra_slow_worker else 1.0
    return {
        # Of a load never seen before, as much as an engine may say nothing at all.
        Phase.LOADING: slowness * max(config.preload_timeout, config.process_timeout / FIRST_MARGIN),
        Phase.STEPPING: slowness * config.inference_step_timeout,
        Phase.FINISHING: slowness * config.post_process_limit_s,
    }


class BatchLimit(NamedTuple):
    """Images that one job may have, and why not more; no reason where that is what the owner allows."""

    images: int
    reason: str


@dataclass(eq=False)
class Estimates(PoolEstimates):
    """Subscribe `note` to the job events; give the whole to the engine pool and the planner."""

    #: what the owner allows, by phase
    stall_limits_s: Callable[[], dict[Phase, float]]
    _: KW_ONLY
    #: the Horde gives this worker more time
    extra_slow: Callable[[], bool] = lambda: False
    cooldowns: ModelCooldowns = field(default_factory=ModelCooldowns)
    out_of_memory: OutOfMemoryLimits = field(default_factory=OutOfMemoryLimits)
    clock: Clock = monotonic

    def __post_init__(self) -> None:
        self._speed = SamplerSpeed()
        self._upscale_pace = UpscaleSpeed()
        self._forecast = Forecast(JobTimes(), self.clock)
        self._memory = MemoryNeeds()
        #: how long an engine may stand still, by model and phase
        self.stall_limits = StallLimits(self.stall_limits_s)

    # What happened

    def note(self, event: JobEvent) -> None:
        """Learn from a job that was rendered, or was not."""
        self._forecast.note(event)
        job = event.job
        match event.stage:
            case Stage.DELIVERING:
                self.cooldowns.succeeded(job.pop.model)
                self._learn_pace(job, finished=True)
            case Stage.FAULTED if job.rendered_at is None:
                self._learn_pace(job, finished=False)

    def engine_failed(self, slot: EngineSlot, task: RenderTask, error: EngineError) -> None:
        """An engine that had begun with a task failed it."""
        now = self.clock()
        if isinstance(error, OutOfMemory) and error.node_type in POST_PROCESSING_NODES:
            # A requester's chain did not fit; the model's own pictures may.
            return
        follows = after_fault(error)
        if follows.sets_aside is SetsAside.SIZE:
            device = slot.settings.device
            self.out_of_memory.ran_out(task.model, device, now, pixels=task.pixels, batch=task.batch)
        elif follows.sets_aside in MODEL_EVIDENCE and not task.additions:
            self.cooldowns.failed(task.model, now, (error.message.splitlines() or [type(error).__name__])[0])

    def models_cleared(self, models: Collection[str]) -> None:
        """What engines did with these models was the engines' own fault."""
        for model in models:
            self.cooldowns.succeeded(model)

    def memory_taken(self, slot: EngineSlot, task: RenderTask, rendering: Rendering, need: MemoryNeed) -> None:
        """An engine told what a rendering that succeeded took of its card."""
        self._memory.learn(
            task.model,
            slot.settings.device,
            self.clock(),
            pixels=task.pixels * rendering.count,
            evaluations=rendering.evaluations,
            need=need,
        )

    # What follows for engines

    def idle_in_s(self, slots: Collection[int]) -> Mapping[int, float]:
        """Seconds until each of these slots has nothing to do, jobs that wait for a place counted in."""
        return self._forecast.idle_in_s(slots)

    def left_s(self, job: Job) -> float | None:
        """Seconds of an engine that the job still needs; None while nothing is known."""
        return self._forecast.left_s(job)

    def work_in_s(self, slots: Collection[int]) -> Mapping[int, float]:
        """Seconds of work that each of these slots has taken."""
        return self._forecast.work_in_s(slots)

    def fits(self, slot: EngineSlot, task: RenderTask) -> bool:
        """Whether the slot's card has the memory that the task needs, as far as known."""
        kind, now = (task.model, slot.settings.device), self.clock()
        size, images = self.out_of_memory.limit_of(*kind, now), self.out_of_memory.images(*kind, now)
        if (size and task.pixels > size.pixels) or (images and task.batch > images):
            return False
        return self._memory.limit_of(*kind, now, wanted=task.pixels * task.batch) is None

    # What follows for jobs

    def upscale_budget_px(self, request: RenderRequest, deadline: float) -> float:
        """Pixels that upscalers of cost 1 can read for this request, so that it is done in time."""
        unit_s, now = self._upscale_pace.unit_s, self.clock()
        if unit_s is None:
            return float("inf")
        speed = self._speed.of(request.model, now)
        sampling_s = speed.unit_s * work_of(request) if speed else 0.0
        return max(0.0, deadline - now - sampling_s - DELIVERY_S) / unit_s * 1e6

    # What follows for pops

    def size_limit(self, model: ServedModel, device: str, *, max_pixels: int, start_s: float) -> SizeLimit | None:
        """How large a picture may be asked for of a device that is free in `start_s`; None: `max_pixels`."""
        now = self.clock()
        limits = (
            self.cooldowns.limit_of(model.name, now),
            self.out_of_memory.limit_of(model.name, device, now),
            self._memory.limit_of(model.name, device, now, wanted=max_pixels),
            self._time_limit(model, max_pixels, start_s, now),
        )
        # The rule: nothing is known against it. This is asked for every model on every device at every pop.
        if limits == NO_LIMITS:
            return None
        limit = tightest(limits)
        return limit if limit and limit.pixels < max_pixels else None

    def batch_limit(self, model: ServedModel, device: str, *, pixels: int, start_s: float, most: int) -> BatchLimit:
        """How many images of `pixels` each one job may ask for, at most `most`."""
        now = self.clock()
        speed = self._speed.of(model, now)
        time = TimeLimits(model.family, speed.unit_s if speed else None, start_s, self.extra_slow())
        slow = "more take longer than the Horde gives" if speed else f"how fast {model.name} is here is not known yet"
        limits = [
            BatchLimit(most, ""),
            BatchLimit(time.most_images(pixels, most), slow),
            *(
                BatchLimit(images, "more do not fit into memory")
                for images in (
                    self.out_of_memory.images(model.name, device, now),
                    self._memory.images(model.name, device, now, pixels=pixels),
                )
                if images
            ),
        ]
        return min(limits, key=lambda limit: limit.images)

    def _time_limit(self, model: ServedModel, max_pixels: int, start_s: float, now: float) -> SizeLimit | None:
        speed = self._speed.of(model, now)
        if speed is None:
            return None
        pixels = TimeLimits(model.family, speed.unit_s, start_s, self.extra_slow()).largest_pixels(max_pixels)
        if pixels < TRIAL_PIXELS and not speed.may_withdraw and start_s <= TRIAL_START_S:
            pixels = min(TRIAL_PIXELS, max_pixels)
        if pixels >= max_pixels:
            return None
        return SizeLimit(pixels, f"a larger picture takes longer than the Horde gives, at {speed.unit_s:.1f} s a unit")

    def _learn_pace(self, job: Job, *, finished: bool) -> None:
        if job.request is not None:
            now = self.clock()
            self._upscale_pace.learn(job.request, job.upscaling.measured())
            steps, seconds = job.sampling.measured(now)
            self._speed.learn(job.request, now, steps=steps, seconds=seconds, finished=finished)
