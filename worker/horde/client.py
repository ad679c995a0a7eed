"""The Horde's API v2 and its storage, as a worker uses them.

Invariants:
- A pop is sent once. When its answer is lost a job may be lost with it, and asking again would lose a second one.
- A submit is repeated when its answer is lost: the server recognises a repetition, so no harm is done.
- The API key goes to the Horde only, in one header; presigned URLs appear in no log and no error with their query.
- Pictures are exchanged with public addresses only, unless the Horde itself is inside the owner's network.
- `deadline` is in the event loop's time. No try begins after it but the first submit: a late answer may still count.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import httpx
from loguru import logger
from pydantic import ValidationError

from worker.errors import ConfigError, HordeError, HordeRefused, HordeUnreachable, HostUnreachable, JobGone
from worker.horde.agent import is_header_text
from worker.horde.backoff import RateLimit, repeat
from worker.horde.error_mapping import Endpoint, refusal, unreadable
from worker.horde.http import Answer, Connections, exchange, is_loopback
from worker.horde.limits import Limits
from worker.horde.messages import (
    HordePerformance,
    MaintenanceRequest,
    ModelDemand,
    PopRequest,
    PopResponse,
    Received,
    Sent,
    SubmitRequest,
    SubmitResponse,
    UserDetails,
    WorkerDetails,
)
from worker.horde.pop_parser import read_pop
from worker.horde.storage import Storage
from worker.untrusted.addresses import is_inside, is_web_address, only_public
from worker.untrusted.http_body import IDENTITY
from worker.untrusted.json_reader import LARGE_BYTES
from worker.untrusted.pictures import Reservation

Found = TypeVar("Found")
Message = TypeVar("Message", bound=Received)


class HordeClient:
    """One worker's connection to one Horde. Close it with `aclose` (`contextlib.aclosing`).

    All methods raise errors of the HordeError branch unless they say otherwise, and may be called side by side.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        agent: str,
        limits: Limits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`base_url` ends before `/v2`; a `transport` takes the place of the network. Raises ConfigError."""
        if not is_web_address(base_url):
            raise ConfigError(
                "horde_url is no web address.", remedy="Write it as https://aihorde.net/api/ in bridgeData.yaml."
            )
        if not api_key or not is_header_text(api_key):
            raise ConfigError(
                "api_key is empty or has characters no key has.", remedy="Copy it again into bridgeData.yaml."
            )
        if not is_header_text(agent):
            raise ConfigError("The agent name has characters that can't be sent.", remedy="Use printable ASCII.")
        self._base_url = base_url.rstrip("/")
        self._headers = {"apikey": api_key, "Client-Agent": agent, **IDENTITY}
        self._limits = limits = limits or Limits()
        # The owner's proxy settings are for the internet; no proxy reaches this machine.
        connect = partial(Connections, limits, proxies=not is_loopback(base_url), transport=transport)
        # Apart, so that a burst of one kind does not hold up another.
        self._pops, self._others = connect(), connect()
        self._stored = connect(hooks=[only_public(unless=partial(is_inside, base_url))])
        self._storage = Storage(self._stored, limits)
        lookups = RateLimit(limits.lookups_per_min, 60.0)
        self._rate_limits = {
            Endpoint.POP: RateLimit(limits.pops_per_s, 1.0),
            Endpoint.SUBMIT: RateLimit(limits.submits_per_s, 1.0),
            Endpoint.USER: lookups,
            Endpoint.WORKER: lookups,
            Endpoint.STATUS: lookups,
            Endpoint.MAINTENANCE: RateLimit(limits.changes_per_min, 60.0),
        }

    async def aclose(self) -> None:
        for connections in (self._pops, self._others, self._stored):
            await connections.aclose()

    async def pop(self, request: PopRequest) -> PopResponse:
        """Ask for work, once. A job with `problems` can't be done: report its ids as faulted.

        Let a pop that is under way come to its end, also when the worker stops: who cancels it drops what it brings.
        Raises HordeMaintenance, HordeRefused, HordeBusy, or HordeUnreachable when no id could be made out.
        """
        answer = await self._ask(Endpoint.POP, "POST", "generate/pop", request, within_s=self._limits.pop_s)
        # What is far longer than any job takes as long to read as the event loop may wait.
        aside = len(answer.body) > LARGE_BYTES
        response = await asyncio.to_thread(read_pop, answer) if aside else read_pop(answer)
        if response is None:
            raise unreadable(Endpoint.POP, answer)
        if response.problems:
            logger.bind(action="pop_garbled", ids=response.job_ids, problems=response.problems).warning(
                "The Horde handed out a job that can't be read: {}.", "; ".join(response.problems)
            )
        return response

    async def submit(self, request: SubmitRequest, *, deadline: float | None = None) -> SubmitResponse:
        """Answer one job id; tried again while that may help.

        Raises JobGone when the Horde wants no answer any more, HordeRefused when it takes no such answer (a 400: send
        it as faulted), HordeUnreachable or HordeBusy when the tries or the time are used up.
        """
        maybe_arrived = False

        async def attempt() -> SubmitResponse:
            nonlocal maybe_arrived
            try:
                answer = await self._ask(
                    Endpoint.SUBMIT, "POST", "generate/submit", request, within_s=self._limits.submit_s
                )
                if (fields := answer.json_object()) is None:
                    raise unreadable(Endpoint.SUBMIT, answer)
            except HordeUnreachable:
                maybe_arrived = True
                raise
            except JobGone as gone:
                if maybe_arrived and gone.rc in _arrived_codes(request):
                    return SubmitResponse()
                raise
            try:
                return SubmitResponse.model_validate(fields)
            except ValidationError:  # it is delivered all the same
                return SubmitResponse()

        return await repeat(attempt, self._limits.submit_retry, deadline)

    async def upload(self, url: str, data: bytes, *, deadline: float | None = None) -> None:
        """Store an image under its presigned address. Raises UploadFailed, JobLate."""
        await self._storage.put(url, data, deadline=deadline)

    async def fetch(
        self, url: str, max_bytes: int, *, deadline: float | None = None, memory: Reservation | None = None
    ) -> bytes:
        """A requester's picture of at most `max_bytes`, taken from `memory` as they arrive.

        Raises JobError (its subclass JobLate past the deadline).
        """
        return await self._storage.get(url, max_bytes, deadline=deadline, memory=memory)

    async def find_user(self) -> UserDetails:
        """Whose key this is."""
        return await self._look_up(Endpoint.USER, "find_user", UserDetails)

    async def worker_by_name(self, name: str) -> WorkerDetails | None:
        """The worker of this name as the Horde sees it; None before its first pop."""
        try:
            return await self._look_up(Endpoint.WORKER, f"workers/name/{_segment(name)}", WorkerDetails)
        except HordeError as error:
            if error.rc == "WorkerNotFound":
                return None
            if error.status == httpx.codes.NOT_FOUND and ("/" in name or not name.strip(".")):
                raise HordeRefused(
                    "The Horde can't look up a worker whose name has a slash, or dots alone.",
                    status=error.status,
                    remedy="Choose another dreamer_name in bridgeData.yaml.",
                ) from error
            raise

    async def model_demand(self) -> list[ModelDemand]:
        """What waits for each image model; entries that make no sense are left out."""
        return await self._get(Endpoint.STATUS, "status/models?type=image&model_state=known", _demand_in)

    async def performance(self) -> HordePerformance:
        """How much waits in all."""
        return await self._look_up(Endpoint.STATUS, "status/performance", HordePerformance)

    async def set_maintenance(self, worker_id: str, on: bool, message: str = "") -> None:
        """Take the worker out of service, or back into it. The key must be its owner's."""
        change = MaintenanceRequest(maintenance=on, maintenance_msg=(message or None) if on else None)

        attempt = partial(self._ask, Endpoint.MAINTENANCE, "PUT", f"workers/{_segment(worker_id)}", change)
        await repeat(attempt, self._limits.lookup_retry)

    async def _look_up(self, endpoint: Endpoint, path: str, kind: type[Message]) -> Message:
        return await self._get(endpoint, path, lambda answer: kind.model_validate(answer.json_object()))

    async def _get(self, endpoint: Endpoint, path: str, read: Callable[[Answer], Found]) -> Found:
        async def attempt() -> Found:
            answer = await self._ask(endpoint, "GET", path)
            try:
                return read(answer)
            except ValidationError as error:
                raise unreadable(endpoint, answer) from error

        return await repeat(attempt, self._limits.lookup_retry)

    async def _ask(
        self, endpoint: Endpoint, method: str, path: str, message: Sent | None = None, *, within_s: float | None = None
    ) -> Answer:
        """One request to the API, in its turn, and its answer. Raises what a refusal stands for."""
        await asyncio.sleep(self._rate_limits[endpoint].reserve(asyncio.get_running_loop().time()))
        connections = self._pops if endpoint is Endpoint.POP else self._others
        request = connections.build_request(
            method,
            f"{self._base_url}/v2/{path}",
            json=None if message is None else message.model_dump(mode="json", exclude_none=True),
            headers=self._headers,
        )
        try:
            answer = await exchange(
                connections, request, max_bytes=self._limits.answer_bytes, within_s=within_s or self._limits.lookup_s
            )
        except HostUnreachable as error:
            raise HordeUnreachable(error.message) from error
        if not answer.is_success:
            raise refusal(endpoint, answer)
        return answer


def _demand_in(answer: Answer) -> list[ModelDemand]:
    entries, found = answer.json_list(), []
    for entry in entries or ():
        with contextlib.suppress(ValidationError):
            found.append(ModelDemand.model_validate(entry))
    if entries is None or (entries and not found):
        raise unreadable(Endpoint.STATUS, answer)
    return found


def _segment(text: str) -> str:
    """Any text as one part of an address's path: dots alone would stand for the folder above."""
    quoted = quote(text, safe="", errors="replace")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _arrived_codes(request: SubmitRequest) -> frozenset[str]:
    """What the server answers to a submit it has already: a fault of ours makes it call the job aborted."""
    return frozenset({"DuplicateGen", "AbortedGen"} if request.state == "faulted" else {"DuplicateGen"})
