"""The way of one job: fetch, translate, render, check, encode, upload, submit.

However it goes, every image of the job gets exactly one answer: delivered, or reported as faulted. One image's
trouble never touches the others of its batch.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from loguru import logger

from worker.after_fault import SetsAside, after_fault
from worker.aio import timeout, timeout_at
from worker.engine.events import Progress
from worker.engine.pool import EnginePool
from worker.engine.render_task import RenderTask
from worker.errors import (
    Addition,
    AdditionBroken,
    AdditionMismatch,
    EngineError,
    HordeError,
    JobGone,
    JobLate,
    ModelBroken,
    UploadFailed,
    WorkerError,
)
from worker.horde.client import HordeClient
from worker.horde.messages import GenMetadata, SubmitRequest
from worker.images import RawImage, all_flat, encode_webp
from worker.jobs.broken_additions import BrokenAdditions, additions_in
from worker.jobs.in_flight import SHUTTING_DOWN
from worker.jobs.inputs import ModelSource, find_model, read_job, require_files
from worker.jobs.job import Job, JobEvents, Stage
from worker.jobs.rendering import JobGraphs, Sampling, Upscaling
from worker.jobs.source_images import MAX_JOB_PICTURE_BYTES, PICTURE_MEMORY_BYTES, fetch_pictures
from worker.safety.checker import SafetyChecker
from worker.safety.verdict import Verdict
from worker.untrusted.pictures import MemoryBudget, Reservation
from worker.workflows.library import Library
from worker.workflows.request import RenderRequest
from worker.workflows.template_selection import select

#: The server takes 50 entries per image.
MAX_METADATA = 50
#: Seconds for reporting faults, after the job's deadline or once the worker has to stop.
FAULT_S = 15.0
#: Seconds for a submit that is on its way when its job is cancelled; within the margin of the ttl.
SEEN_THROUGH_S = 3.0


class Made(NamedTuple):
    """An image, and the seed that makes it again; the images of one batch share theirs."""

    image: RawImage
    seed: int


@dataclass(eq=False)
class JobRunner:
    """Runs any number of jobs at once; what is scarce is limited where it is scarce."""

    horde: HordeClient
    engines: EnginePool
    safety: SafetyChecker
    library: Callable[[], Library]
    models: ModelSource
    events: JobEvents
    #: pixels that upscalers of cost 1 can read for a request until a time on the loop's clock
    upscale_budget_px: Callable[[RenderRequest, float], float] = lambda _request, _deadline: float("inf")

    def __post_init__(self) -> None:
        self._broken = BrokenAdditions()
        # Encoding is CPU work beside the engine's; more at a time than cores only slows each.
        self._encoders = asyncio.Semaphore(max(1, (os.cpu_count() or 2) // 2))
        self._picture_memory = MemoryBudget(PICTURE_MEMORY_BYTES, MAX_JOB_PICTURE_BYTES)

    async def run(self, job: Job) -> None:
        """Carry the job to its end; never raises but on cancellation, which faults what is still owed."""
        self.events.enter(job, Stage.POPPED)
        report_until = job.deadline
        try:
            async with timeout_at(job.deadline):
                with self._picture_memory.reserve() as memory:
                    made = await self._make(job, memory)
                self.events.enter(job, Stage.DELIVERING)
                await self._deliver_all(job, made)
        except TimeoutError:
            job.fail(JobLate(f"The job was not done within its {job.pop.ttl:.0f} s."))
        except asyncio.CancelledError:
            job.fault = job.dropped or job.fault or SHUTTING_DOWN
            report_until = 0.0
            raise
        except WorkerError as error:
            job.fail(error)
        except Exception as error:  # a defect of ours must not cost the requester the whole time to live
            logger.exception("A defect in the worker: job {} failed", job.name)
            job.fail(WorkerError(f"internal error: {type(error).__name__}"))
        finally:
            if job.owed:
                self.events.enter(job, Stage.REPORTING)
            await self._see_faulted(job, report_until)
            if not job.owed and not job.faulted:
                # What was on its way when it was broken off has arrived.
                job.fault = ""
            job.ended_at = asyncio.get_running_loop().time()
            self.events.enter(job, Stage.FAULTED if job.fault else Stage.DONE)

    async def give_back(self, job: Job, reason: str) -> None:
        """Fault a job that was popped and is not begun any more."""
        job.fault = reason
        await self._fault_owed(job)

    async def _make(self, job: Job, memory: Reservation) -> list[Made]:
        """The job's images in the order of its ids."""
        self.events.enter(job, Stage.FETCHING)
        model = find_model(job, self.models)
        pictures = await fetch_pictures(job, model, self.horde, memory)
        inputs = await read_job(
            job,
            model,
            self.models,
            pictures,
            broken=self._broken,
            upscale_budget_px=self.upscale_budget_px,
        )
        job.request = request = inputs.request
        plan = select(self.library(), request)
        require_files(request, plan, self.models)

        graphs = JobGraphs(plan, request)

        def note_progress(progress: Progress) -> None:
            now = asyncio.get_running_loop().time()
            job.started_at = job.started_at or now
            job.progress = (progress.value, progress.maximum)
            if progress.node_id in graphs.samplers:
                job.sampling.note(progress.node_id, progress.value, now)
            elif progress.node_id in graphs.upscalers:
                job.upscaling.note(progress.node_id, progress.value, progress.maximum, now)

        def note_place(slot: int) -> None:
            job.slot = slot
            # Of a second try nothing is done yet.
            job.started_at, job.progress = None, (0, 0)
            job.sampling, job.upscaling = Sampling(), Upscaling()

        self.events.enter(job, Stage.RENDERING)
        additions = additions_in(request)
        mismatched: set[Addition] = set()
        task = RenderTask(
            model=job.pop.model,
            pixels=request.width * request.height,
            batch=request.batch,
            prepare=graphs,
            pictures=await pictures.encoded(request),
            deadline=job.deadline,
            on_progress=note_progress,
            on_placed=note_place,
            on_failed=partial(self._note_failure, request, mismatched),
            additions=additions,
        )
        images = await self.engines.render(task)
        self._broken.clear(additions - graphs.without)
        self.models.rendered(request)
        for addition in sorted(graphs.without, key=str):
            job.metadata.append(
                inputs.note_on(addition, "baseline_mismatch" if addition in mismatched else "parse_failed")
            )
        job.flat = await asyncio.to_thread(all_flat, images)
        job.rendered_at = asyncio.get_running_loop().time()
        return [Made(image, seed) for image, seed in zip(images, graphs.seeds, strict=False)]

    def _note_failure(self, request: RenderRequest, mismatched: set[Addition], error: EngineError) -> None:
        """Hold a failed try against what is to blame for it."""
        match error:
            case AdditionMismatch():
                # Nothing is wrong with its file: a model of another family may use it.
                mismatched |= error.additions
                logger.bind(action="addition_mismatch").info("{}", error)
            case ModelBroken():
                self.models.broken(request, error)
            case AdditionBroken():
                self._broken.note(error.additions)
                self.models.broken(request, error)
                logger.bind(action="addition_broken").warning("{}", error)
            case _ if after_fault(error).sets_aside in (SetsAside.MODEL_BY_EVIDENCE, SetsAside.MODEL_OR_ENGINE):
                self._broken.suspect(additions_in(request))

    async def _deliver_all(self, job: Job, made: list[Made]) -> None:
        if len(made) < len(job.pop.job_ids):
            logger.warning("Job {}: {} images for {} ids", job.name, len(made), len(job.pop.job_ids))
        results = await asyncio.gather(
            *(self._deliver(job, index, each) for index, each in enumerate(made[: len(job.pop.job_ids)])),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, WorkerError):
                job.fail(result)
            elif isinstance(result, BaseException):
                raise result
        if job.owed and not job.fault:
            job.fault = "The engine made too few images."

    async def _deliver(self, job: Job, index: int, made: Made) -> None:
        """Check, encode, upload and submit one image."""
        job_id = job.pop.job_ids[index]
        with job.timed("safety"):
            verdict = await self.safety.check(
                made.image, prompt=job.prompt, model=job.pop.model, censor_nsfw=job.censors_nsfw, deadline=job.deadline
            )
        with job.timed("encode"):
            async with self._encoders:
                data = await asyncio.to_thread(encode_webp, verdict.replacement or made.image)
        self.events.pictures.publish(job, data)
        if index >= len(job.pop.uploads):
            raise UploadFailed("The Horde gave no upload URL for this image.")
        with job.timed("upload"):
            await self.horde.upload(job.pop.uploads[index], data, deadline=job.deadline)
        submission = SubmitRequest(
            id=job_id,
            generation="R2",
            state=verdict.state,
            seed=made.seed,
            gen_metadata=self._metadata(job, index, verdict),
        )
        with job.timed("submit"):
            await self._submit(job, submission, deadline=job.deadline)

    async def _submit(self, job: Job, submission: SubmitRequest, *, deadline: float) -> None:
        sending = asyncio.ensure_future(self._send(job, submission, deadline=deadline))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            # The Horde may have it already, and then any other answer would be a second one.
            await asyncio.wait([sending], timeout=SEEN_THROUGH_S)
            raise
        finally:
            sending.cancel()

    async def _send(self, job: Job, submission: SubmitRequest, *, deadline: float) -> None:
        try:
            answer = await self.horde.submit(submission, deadline=deadline)
            job.kudos += job.credited * (answer.reward or 0.0)
            job.delivered += submission.state != "faulted"
        except JobGone as error:
            job.unknown += submission.state == "faulted" and error.rc == "InvalidJobID"
            logger.bind(action="job_gone", job_id=submission.id).warning("Job {} is gone: {}", job.name, error)
        self.events.answer(job, submission.id)

    @staticmethod
    def _metadata(job: Job, index: int, verdict: Verdict) -> list[GenMetadata]:
        metadata = []
        if verdict.note:
            metadata.append(GenMetadata(type=verdict.note[0], value=verdict.note[1]))
        if verdict.aesthetic is not None:
            metadata.append(GenMetadata(type="aesthetic_score", value="see_ref", ref=f"{verdict.aesthetic:.2f}"))
        if len(job.pop.job_ids) > 1:
            metadata.append(GenMetadata(type="batch_index", value="see_ref", ref=str(index)))
        return (metadata + job.metadata)[:MAX_METADATA]

    async def _see_faulted(self, job: Job, until: float) -> None:
        """Report what is owed until then and a little longer; once cancelled, that little from then on."""
        faulting = asyncio.ensure_future(self._fault_owed(job, until))
        # One cancellation may come from the end of a drain. Who cancels again does not want to wait.
        for limit_s in (None, FAULT_S):
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                async with timeout(limit_s):
                    await asyncio.shield(faulting)
        faulting.cancel()

    async def _fault_owed(self, job: Job, until: float = 0.0) -> None:
        """Tell the Horde of every image that will not come, so that another worker gets it at once."""
        deadline = max(asyncio.get_running_loop().time(), until) + FAULT_S

        async def fault(job_id: str) -> None:
            submission = SubmitRequest(id=job_id, generation="faulted", state="faulted", seed=0)
            try:
                await self._submit(job, submission, deadline=deadline)
                job.faulted += 1
            except HordeError as error:
                logger.error("Job {}: the fault could not be reported either: {}", job.name, error)

        if job.owed:
            part = f", {len(job.owed)} of {len(job.pop.job_ids)} images" if job.delivered else ""
            logger.bind(action="job_faulted", job_id=job.id).error("Job {} faulted{}: {}", job.name, part, job.fault)
        await asyncio.gather(*(fault(job_id) for job_id in job.owed))
