"""The life of the embedded Horde's requests and jobs: queued, handed out, delivered, failed, swept away.

Pure state, not locked by itself. A failed image waits again until the request has had as many failures as it has
images; so one request costs a worker at most two tries an image.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.demo.horde.admission import inline_picture, stored_picture
from worker.demo.horde.books import Books
from worker.demo.horde.directory import Directory
from worker.demo.horde.matching import chosen_model, needed_level, reward_factor
from worker.demo.horde.queue import RequestQueue
from worker.demo.horde.records import ImageRequest, Job, ModelFacts, Outcome, QueuedRequest, Refused, User, WorkerRecord
from worker.demo.horde.rules import PARAMS_DEFAULTS, counted_steps, kudos_of, safe_amount, seed_number, time_to_live
from worker.demo.horde.storage import SOURCES, UPLOADS, ObjectStorage

#: What one delivered image costs its requester beside the reward.
_IMAGE_FEE = 1
#: Weight of the newest job in the mean that waiting times are estimated from.
_MEAN_WEIGHT = 0.1


@dataclass(frozen=True)
class Rules:
    """The server's numbers, as measured; shorter ones make tests quick."""

    sweep_s: float = 60.0
    request_expiry_s: float = 1200.0
    extra_slow_expiry_s: float = 3600.0
    #: one more fault than this within the window puts a worker into maintenance
    most_faults: int = 20
    faults_window_s: float = 3600.0
    #: a request with so many faulted jobs is given up by the sweep
    give_up_faults: int = 3
    #: times to live, as a share of the live server's
    ttl_share: float = 1.0
    #: 30 on the live server; 0 takes a worker's switches from every pop
    checkin_debounce_s: float = 0.0


class Dispatch:
    """Requests and jobs by id, and every change of their state."""

    def __init__(
        self,
        directory: Directory,
        storage: ObjectStorage,
        models: Mapping[str, ModelFacts],
        rules: Rules,
        *,
        rng: random.Random,
        new_id: Callable[[], str],
    ) -> None:
        self.queue = RequestQueue()
        self.books = Books()
        self.open_jobs: dict[str, Job] = {}
        self.mean_job_s = 1.0
        self._directory = directory
        self._storage = storage
        self._models = models
        self._rules = rules
        self._random = rng
        self._new_id = new_id
        self._requests: dict[str, QueuedRequest] = {}
        self._jobs: dict[str, Job] = {}

    def request(self, request_id: str) -> QueuedRequest:
        """Raises Refused (404) for an unknown or expired one."""
        try:
            return self._requests[request_id]
        except KeyError:
            raise Refused(404, "RequestNotFound", f"Image request with ID '{request_id}' not found.") from None

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def is_pending(self, request_id: str) -> bool:
        """Can this request still get images?"""
        request = self._requests.get(request_id)
        return request is not None and not request.done and not (request.given_up and not request.processing)

    def enqueue(self, asked: ImageRequest, user: User, *, now: float) -> QueuedRequest:
        """A new request at the end of its user's queue. Raises Refused (429) when the user has too much waiting."""
        params = complete(asked.params)
        images = params.pop("n")
        if user.waiting + images > user.concurrency:
            raise Refused(429, "TooManyPrompts", f"Parallel requests exceeded user limit ({user.concurrency}).")
        request = QueuedRequest(
            id=self._new_id(),
            asked=asked,
            user=user,
            params=params,
            images=images,
            waiting=0,
            steps=counted_steps(params),
            created=now,
            touched=now,
            bridge_level=needed_level(asked, params),
        )
        self._store_sources(request)
        self._requests[request.id] = request
        self.queue.add_images(request, images)
        return request

    def hand_out(
        self, request: QueuedRequest, worker: WorkerRecord, pop: Mapping[str, Any], *, now: float
    ) -> list[Job]:
        """Gives a worker as many images of a request as is safe: one id each, one seed and one ttl for all."""
        asked, params = request.asked, request.params
        model = chosen_model(request, pop["models"])
        if model is None:
            raise ValueError(f"worker {worker.name} was offered request {request.id} without a model for it")
        amount = safe_amount(
            params,
            asked=pop["amount"],
            max_pixels=worker.switches["max_pixels"],
            waiting=request.waiting,
            batching=not asked.disable_batching,
        )
        seed = seed_number(params.get("seed"), self._random) + params.get("seed_variation", 0) * request.waiting
        named = [self._models[name].baseline for name in asked.models or (model,) if name in self._models]
        ttl_s = int(
            time_to_live(params, named, extra_slow=worker.switches["extra_slow_worker"]) * self._rules.ttl_share
        )
        jobs = [Job(self._new_id(), request, worker, model, seed, now, ttl_s) for _ in range(amount)]
        self.queue.add_images(request, -amount)
        request.processing += amount
        request.touched = now
        request.jobs.extend(jobs)
        for job in jobs:
            self._jobs[job.id] = self.open_jobs[job.id] = job
            self.books.popped(job)
        return jobs

    def deliver(self, job: Job, answer: Mapping[str, Any], *, now: float) -> None:
        """An image is there: the worker is paid, the requester charged (but not for a censored one)."""
        job.outcome = Outcome.OK
        job.submitted_seed = answer["seed"]
        job.gen_metadata = answer.get("gen_metadata", [])
        facts = self._models.get(job.model)
        job.reward = kudos_of(job.request.params, baseline=facts.baseline if facts else None)
        if answer["generation"] != "R2":
            self._keep_inline(job, answer["generation"])
        request, worker = job.request, job.worker
        request.finished += 1
        price = _IMAGE_FEE if job.censored else round(job.reward + _IMAGE_FEE)
        request.kudos += price
        request.user.kudos -= price
        credited = job.reward * reward_factor(worker.switches["bridge_agent"])
        worker.kudos += credited
        worker.owner.kudos += credited
        worker.fulfilled += 1
        worker.megapixelsteps += request.megapixelsteps
        took_s = max(now - job.popped_at, 1e-3)
        worker.speeds.append(request.megapixelsteps / took_s)
        self.mean_job_s += (took_s - self.mean_job_s) * _MEAN_WEIGHT
        self._settle(job, credited, now)

    def fail(self, job: Job, outcome: Outcome, *, now: float) -> None:
        """The worker gave up or was too late: it is counted against it, and the image waits again or is lost."""
        job.outcome = outcome
        request = job.request
        request.restarted += 1
        if request.restarted <= request.images:
            self.queue.add_images(request, 1)
        self._directory.count_fault(
            job.worker, now=now, most=self._rules.most_faults, window_s=self._rules.faults_window_s
        )
        self._settle(job, 0.0, now)

    def sweep(self, *, now: float) -> None:
        """What the server does each minute: abort overdue jobs, give up on failing requests, forget old ones."""
        for job in list(self.open_jobs.values()):
            if now > job.popped_at + job.ttl_s:
                self.fail(job, Outcome.ABORTED, now=now)
        for request in list(self._requests.values()):
            if request.restarted >= self._rules.give_up_faults and request.waiting:
                self.queue.give_up(request)
            slow = request.asked.extra_slow_workers
            expiry_s = self._rules.extra_slow_expiry_s if slow else self._rules.request_expiry_s
            if not request.processing and now > request.touched + expiry_s:
                self._forget(request)

    def _settle(self, job: Job, credited: float, now: float) -> None:
        job.settled_at = job.request.touched = now
        job.request.processing -= 1
        del self.open_jobs[job.id]
        self.books.settled(job, credited)

    def _forget(self, request: QueuedRequest) -> None:
        self.queue.withdraw(request)
        del self._requests[request.id]
        for job in request.jobs:
            del self._jobs[job.id]

    def _keep_inline(self, job: Job, text: str) -> None:
        """An image in the answer itself is uploaded for the worker; any other text is kept as it is."""
        picture = inline_picture(text)
        if picture is None:
            job.inline = text
        else:
            self._storage.put(UPLOADS, object_name(job), picture)

    def _store_sources(self, request: QueuedRequest) -> None:
        asked = request.asked
        if asked.source_image is not None:
            request.source_image = self._store(f"{request.id}_src.webp", asked.source_image)
        if asked.source_mask is not None:
            request.source_mask = self._store(f"{request.id}_msk.webp", asked.source_mask)
        request.extra_source_images = tuple(
            (self._store(f"{request.id}_exra_src_{index}.webp", data), strength)
            for index, (data, strength) in enumerate(asked.extra_source_images)
        )

    def _store(self, name: str, data: bytes) -> str:
        self._storage.put(SOURCES, name, stored_picture(data))
        return name


def complete(params: Mapping[str, Any]) -> dict[str, Any]:
    """A request's params with the server's defaults for all that is absent."""
    return {**PARAMS_DEFAULTS, **params}


def object_name(job: Job) -> str:
    """Where a job's image is uploaded, whatever its format."""
    return f"{job.id}.webp"
