"""The embedded Horde: a state machine of requests, workers and jobs that behaves as the live server was measured.

No sockets, no files, no threads of its own, its clock injected: the HTTP side is `worker.demo.horde.app`. Every public
method may be called from any thread. What the live server does by the minute (taking away overdue jobs, giving up,
expiring) happens here in the first call after the minute has passed.
"""

import base64
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from worker.demo.horde.admission import admit
from worker.demo.horde.directory import REQUESTER_KEY, Directory, default_users
from worker.demo.horde.dispatch import Dispatch, Rules, complete, object_name
from worker.demo.horde.matching import agent_level, offered, skip_counts
from worker.demo.horde.records import (
    Accounting,
    Baseline,
    Delivery,
    ImageRequest,
    Job,
    ModelFacts,
    Outcome,
    QueuedRequest,
    Refused,
    User,
)
from worker.demo.horde.rules import kudos_of
from worker.demo.horde.schema import PARAMS, POP, POP_DEFAULTS, SUBMIT, require
from worker.demo.horde.storage import SOURCES, UPLOADS, ObjectStorage
from worker.demo.horde.views import (
    VERSION,
    check_view,
    empty_pop_view,
    generations_view,
    models_view,
    pop_view,
    user_view,
    worker_view,
)

#: The models that the embedded Horde knows when it is told of no others: one or two of each family.
MODELS: Mapping[str, ModelFacts] = MappingProxyType(
    {
        "stable_diffusion": ModelFacts(Baseline.SD1),
        "Deliberate": ModelFacts(Baseline.SD1),
        "Deliberate Inpainting": ModelFacts(Baseline.SD1, inpainting=True),
        "stable_diffusion_inpainting": ModelFacts(Baseline.SD1, inpainting=True),
        "AlbedoBase XL (SDXL)": ModelFacts(Baseline.SDXL),
        "Stable Cascade 1.0": ModelFacts(Baseline.CASCADE, min_steps=20, max_steps=30),
        "Flux.1-Schnell fp8 (Compact)": ModelFacts(Baseline.FLUX, min_steps=3, max_steps=8),
    }
)

_MOST_METADATA = 50
_SEED_BITS = 63


class EmbeddedHorde:
    """The Horde in memory. Refusals are raised as `Refused`; answers are JSON-ready dicts."""

    def __init__(
        self,
        *,
        models: Mapping[str, ModelFacts] = MODELS,
        users: Iterable[User] | None = None,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.time,
        storage: ObjectStorage | None = None,
        seed: int | None = None,
    ) -> None:
        self.clock = clock
        self.storage = storage or ObjectStorage()
        self._models = models
        self._rules = rules or Rules()
        self._random = random.Random(seed)
        self._directory = Directory(
            default_users() if users is None else users,
            models,
            new_id=self._new_id,
            debounce_s=self._rules.checkin_debounce_s,
        )
        self._dispatch = Dispatch(
            self._directory, self.storage, models, self._rules, rng=self._random, new_id=self._new_id
        )
        self._queue = self._dispatch.queue
        self._books = self._dispatch.books
        self._next_sweep = clock() + self._rules.sweep_s
        self._changed = threading.Condition()

    # What a worker calls

    def pop(self, api_key: str, body: Any, *, base_url: str, clock_skew_s: float = 0.0) -> dict[str, Any]:
        """POST /generate/pop. `clock_skew_s` dates the answer's URLs so much off the present (negative: stale)."""
        pop = {**POP_DEFAULTS, **require(POP, body)}
        if "name" not in pop:
            raise _missing("name", "Missing required parameter in the JSON body")
        with self._changed:
            self._tick()
            now = self.clock()
            user = self._directory.user(api_key)
            if user.id == 0:
                raise Refused(403, "AnonForbiddenWorker", "Anonymous user is forbidden from performing this operation")
            preferred = {user.username, *_priority_usernames(pop["priority_usernames"])}
            pop["models"] = self._directory.known_models(user, pop["models"])
            worker = self._directory.check_in(user, pop, now=now)
            messages = self._directory.messages(worker, now=now)
            for request in self._queue.in_order(preferred, preferred_only=worker.maintenance):
                if offered(request, worker, pop, self._models):
                    jobs = self._dispatch.hand_out(request, worker, pop, now=now)
                    return self._pop_answer(jobs, messages, base_url, now + clock_skew_s)
            if worker.maintenance:
                raise Refused(403, "WorkerMaintenance", worker.maintenance_message)
            return empty_pop_view(skip_counts(self._queue, worker, pop, self._models), messages)

    def submit(self, api_key: str, body: Any) -> dict[str, Any]:
        """POST /generate/submit. Whether anything was uploaded is not looked at."""
        answer = require(SUBMIT, body)
        if "generation" not in answer:
            raise _missing("generation", "Missing required parameter in the JSON body")
        with self._changed:
            self._tick()
            job = self._dispatch.job(answer["id"])
            if job is None:
                self._books.stray(None)
                raise Refused(404, "InvalidJobID", f"Processing Job with ID {answer['id']} does not exist.")
            user = self._directory.find_user(api_key)
            if user is None or abs(answer["seed"]) >> _SEED_BITS:
                raise Refused(500, "", "Internal Server Error")
            if job.worker.owner is not user:
                raise Refused(403, "WrongCredentials", "Wrong credentials to submit as this worker.")
            if job.outcome is not Outcome.OPEN:
                self._books.stray(job)
                raise _not_waited_for(job)
            metadata = answer.get("gen_metadata", [])
            censored = any(entry["type"] == "censorship" for entry in metadata)
            self._changed.notify_all()
            if answer.get("state") == "faulted" and not censored:
                self._dispatch.fail(job, Outcome.FAULTED, now=self.clock())
                return {"reward": 0.0}
            self._dispatch.deliver(job, answer, now=self.clock())
            if len(metadata) > _MOST_METADATA:  # paid and delivered nevertheless, as on the live server
                raise Refused(400, "BadRequest", f"Too many metadata fields. Max is {_MOST_METADATA}.")
            return {"reward": job.reward}

    # What a requester calls

    def request_images(self, api_key: str, body: Any) -> tuple[int, dict[str, Any]]:
        """POST /generate/async → (status, answer)."""
        with self._changed:
            self._tick()
            user = self._directory.user(api_key)
            asked = admit(body, user=user, models=self._models, known_workers=self._directory.worker_ids)
            estimate = float(round(kudos_of(complete(asked.params), baseline=None)))
            if body.get("dry_run"):
                return 200, {"kudos": estimate}
            request = self._dispatch.enqueue(asked, user, now=self.clock())
            answer: dict[str, Any] = {"id": request.id, "kudos": estimate}
            if not self._possible(request):
                text = "Warning: No available workers can fulfill this request."
                answer |= {"message": text, "warnings": [{"code": "NoAvailableWorker", "message": text}]}
            return 202, answer

    def check(self, request_id: str) -> dict[str, Any]:
        """GET /generate/check/{id}."""
        with self._changed:
            self._tick()
            return self._check(self._dispatch.request(request_id))

    def status(self, request_id: str, *, base_url: str) -> dict[str, Any]:
        """GET /generate/status/{id}: progress and every delivered image."""
        with self._changed:
            self._tick()
            request = self._dispatch.request(request_id)
            generations = generations_view(request, lambda job: self._image_field(job, base_url))
            return {"generations": generations, "shared": False, **self._check(request)}

    def cancel(self, request_id: str, *, base_url: str) -> dict[str, Any]:
        """DELETE /generate/status/{id}. Jobs in a worker's hands stay there."""
        with self._changed:
            self._queue.withdraw(self._dispatch.request(request_id))
            self._changed.notify_all()
            return self.status(request_id, base_url=base_url)

    # Accounts, workers, the queue as a whole

    def find_user(self, api_key: str) -> dict[str, Any]:
        """GET /find_user."""
        with self._changed:
            user = self._directory.find_user(api_key)
            if user is None:
                raise Refused(404, "UserNotFound", "No user matching sent API Key.")
            return user_view(user)

    def workers(self) -> list[dict[str, Any]]:
        """GET /workers: those online."""
        with self._changed:
            now = self.clock()
            return [worker_view(worker, now=now, owner_looks=False) for worker in self._directory.online(now)]

    def worker(self, name_or_id: str, api_key: str = "") -> dict[str, Any]:
        """GET /workers/{id} and /workers/name/{name}; the owner sees more."""
        with self._changed:
            worker = self._directory.worker(name_or_id)
            looks = self._directory.find_user(api_key) is worker.owner
            return worker_view(worker, now=self.clock(), owner_looks=looks)

    def modify_worker(self, api_key: str, worker_id: str, body: Any) -> dict[str, Any]:
        """PUT /workers/{id}."""
        with self._changed:
            user = self._directory.user(api_key)
            return self._directory.modify(user, self._directory.worker(worker_id), body)

    def models(self) -> list[dict[str, Any]]:
        """GET /status/models."""
        with self._changed:
            return models_view(self._queue, self._directory.online(self.clock()))

    def performance(self) -> dict[str, Any]:
        """GET /status/performance."""
        with self._changed:
            return {
                "queued_requests": sum(request.waiting for request in self._queue),
                "worker_count": sum(1 for _ in self._directory.online(self.clock())),
            }

    def heartbeat(self) -> dict[str, Any]:
        """GET /status/heartbeat."""
        with self._changed:
            waiting = sum(request.waiting for request in self._queue)
            return {
                "message": "OK",
                "version": VERSION,
                "queue": waiting,
                "active_count": len(self._dispatch.open_jobs),
            }

    # Control, for tests, the demo and benches in this process

    def add_user(self, user: User) -> None:
        """One more account; its key works at once."""
        with self._changed:
            self._directory.add_user(user)

    def enqueue(self, asked: ImageRequest, *, api_key: str = REQUESTER_KEY) -> str:
        """A request without the rules for requesters; the id. Raises Refused for params of a wrong shape."""
        require(PARAMS, dict(asked.params))
        with self._changed:
            return self._dispatch.enqueue(asked, self._directory.user(api_key), now=self.clock()).id

    def wait(self, request_ids: Iterable[str], *, timeout_s: float) -> None:
        """Blocks until nothing of these waits or is worked on any more. Raises TimeoutError."""
        wanted = set(request_ids)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while wanted := {request_id for request_id in wanted if self._dispatch.is_pending(request_id)}:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{len(wanted)} requests are not done after {timeout_s:g} s")
                self._changed.wait(min(left, 1.0))
                self._tick()

    def deliveries(self, request_id: str) -> list[Delivery]:
        """Every image delivered for a request, in the order of its jobs."""
        with self._changed:
            jobs = [job for job in self._dispatch.request(request_id).jobs if job.outcome is Outcome.OK]
            return [self._delivery(job) for job in jobs]

    def accounting(self) -> Accounting:
        """The books so far."""
        with self._changed:
            self._tick()
            return self._books.accounting()

    def undelivered(self, job_ids: list[str]) -> None:
        """The pop answer that carried these ids was destroyed on its way; no worker is to blame for them."""
        with self._changed:
            self._books.undelivered(job_ids)

    def unheard(self, job_id: str) -> None:
        """The answer to this id's submit was destroyed on its way; to send it again is the worker's only choice."""
        with self._changed:
            self._books.unheard(job_id)

    def set_maintenance(self, name_or_id: str, *, on: bool, message: str = "") -> None:
        """Puts a worker into maintenance, or ends it."""
        with self._changed:
            self._directory.set_maintenance(self._directory.worker(name_or_id), on=on, message=message)

    def message_worker(self, name_or_id: str, text: str, *, expires_s: float = 3600.0) -> None:
        """Leaves a message that every pop of this worker shows until it expires."""
        with self._changed:
            worker = self._directory.worker(name_or_id)
            self._directory.leave_message(worker, text, now=self.clock(), expires_s=expires_s)

    # Inside

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _tick(self) -> None:
        now = self.clock()
        if now >= self._next_sweep:
            self._next_sweep = now + self._rules.sweep_s
            self._dispatch.sweep(now=now)
            self._changed.notify_all()

    def _pop_answer(
        self, jobs: list[Job], messages: list[dict[str, str]], base_url: str, dated: float
    ) -> dict[str, Any]:
        uploads = None
        if agent_level(jobs[0].worker.switches["bridge_agent"]) is not None:
            uploads = [
                self.storage.sign("PUT", UPLOADS, object_name(job), now=dated, base_url=base_url) for job in jobs
            ]
        created = jobs[0].request.created + dated - self.clock()
        return pop_view(
            jobs,
            messages,
            uploads=uploads,
            source=lambda name: self.storage.sign("GET", SOURCES, name, now=created, base_url=base_url),
        )

    def _check(self, request: QueuedRequest) -> dict[str, Any]:
        threads = sum(worker.switches["threads"] for worker in self._directory.online(self.clock()))
        wait_s = self._queue.images_before(request) * self._dispatch.mean_job_s / max(threads, 1)
        return check_view(
            request, position=self._queue.position(request), wait_s=wait_s, possible=self._possible(request)
        )

    def _possible(self, request: QueuedRequest) -> bool:
        """Could any worker online serve it? A request that is done needs none."""
        online = self._directory.online(self.clock())
        return request.done or any(offered(request, worker, worker.switches, self._models) for worker in online)

    def _image_field(self, job: Job, base_url: str) -> str:
        """An address; or, where the requester wanted no address, the object itself; or what the worker wrote."""
        if job.inline is not None:
            return job.inline
        if job.request.asked.r2:
            return self.storage.sign("GET", UPLOADS, object_name(job), now=self.clock(), base_url=base_url)
        return base64.b64encode(self._uploaded(job) or b"").decode()

    def _uploaded(self, job: Job) -> bytes | None:
        try:
            return self.storage.get(UPLOADS, object_name(job))
        except Refused:
            return None

    def _delivery(self, job: Job) -> Delivery:
        return Delivery(
            job_id=job.id,
            model=job.model,
            worker=job.worker.name,
            seconds=job.settled_at - job.popped_at,
            seed=job.submitted_seed,
            censored=job.censored,
            gen_metadata=tuple(job.gen_metadata),
            kudos=job.reward,
            data=self._uploaded(job),
        )


def _missing(field: str, text: str) -> Refused:
    return Refused(400, "", "Input payload validation failed", errors={field: text})


def _not_waited_for(job: Job) -> Refused:
    if job.outcome is Outcome.OK:
        return Refused(400, "DuplicateGen", f"Processing Generation with ID {job.id} already submitted.")
    return Refused(400, "AbortedGen", f"Processing Generation with ID {job.id} was aborted: {job.ttl_s} s are over.")


def _priority_usernames(names: list[str]) -> list[str]:
    """The server wants alias#number; it refuses names without the sign and breaks on those without the number."""
    for name in names:
        _, sign, number = name.partition("#")
        if not sign:
            raise Refused(400, "InvalidPriorityUsername", "Priority usernames have the form alias#number.")
        if not number.isdecimal():
            raise Refused(500, "", "Internal Server Error")
    return names
