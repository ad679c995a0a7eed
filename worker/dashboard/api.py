"""The interface for programs: the status as JSON, and the steps that steer the worker, each answer one object.

Beside it the probes of a container's keeper: does it live, has it started, can it do jobs. They say nothing else, and
need no token.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from worker.dashboard import views
from worker.errors import HordeError, InputRefused, WorkerError
from worker.status.as_json import dumps, versioned
from worker.status.board import StatusBoard
from worker.status.snapshot import Phase, Snapshot
from worker.untrusted.json_reader import JsonBounds, read_json_object

#: What a request may hold.
BODY_BOUNDS = JsonBounds(max_bytes=4096, max_depth=2)
#: Jobs of one answer, and hours.
MOST_JOBS, MOST_HOURS = 500, 168
#: Digits of a number in a query.
LONGEST_NUMBER = 9
#: States of a slot whose engine can do a job.
ABLE = frozenset({"ready", "working"})

#: The running worker, and the object that was sent.
Step = Callable[[StatusBoard, dict[str, Any]], Awaitable[None] | None]


def routes(status: StatusBoard) -> list[Route]:
    """All of it, below /api."""

    async def show(_: Request) -> Response:
        return _json(versioned(status.snapshot()))

    async def history(request: Request) -> Response:
        query = request.query_params
        wanted = views.wanted(*(query.get(name, "") for name in ("model", "outcome", "blame", "feature")))
        offset, limit = _number(query.get("offset"), 0, 10**6), _number(query.get("limit"), 100, MOST_JOBS)
        jobs, total = status.history(offset=offset, limit=limit, wanted=wanted)
        return _json(versioned({"total": total, "jobs": jobs}))

    async def hours(request: Request) -> Response:
        count = max(1, _number(request.query_params.get("count"), 24, MOST_HOURS))
        return _json(versioned({"hours": status.hours(count)}))

    def step(do: Step) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                if under_way := do(status, await _body(request)):
                    await under_way
            except WorkerError as error:
                code = 502 if isinstance(error, HordeError) else 400
                return _json(dumps({"error": error.message, "remedy": error.remedy}), code)
            return _json(versioned({"phase": status.phase()}))

        return answer

    return [
        Route("/api/status", show),
        Route("/api/history", history),
        Route("/api/hours", hours),
        *(Route(f"/api/{name}", step(do), methods=["POST"]) for name, do in STEPS.items()),
    ]


def probes(status: StatusBoard) -> list[Route]:
    """/healthz, /startupz and /readyz."""

    async def health(_: Request) -> Response:
        # That it answers says it: the event loop turns.
        return PlainTextResponse("ok\n")

    async def startup(_: Request) -> Response:
        return _verdict("no engine has been ready yet" if status.phase() is Phase.STARTING else "")

    async def ready(_: Request) -> Response:
        return _verdict(not_ready(status.snapshot()))

    return [Route("/healthz", health), Route("/startupz", startup), Route("/readyz", ready)]


def not_ready(status: Snapshot) -> str:
    """Why no job can be done; empty when one can. A pause of the owner's is no reason: the worker is sound."""
    if status.phase is Phase.FINISHING:
        return "the worker is ending"
    if not any(slot.state in ABLE for slot in status.slots):
        return "no engine is ready"
    return ""


def _verdict(reason: str) -> Response:
    return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)


def _pause(status: StatusBoard, body: dict[str, Any]) -> None:
    for_s = body.get("for_s")
    # What was sent and is no number, null and NaN among it, must not become a pause without an end.
    if "for_s" in body and (isinstance(for_s, bool) or not isinstance(for_s, (int, float))):
        raise InputRefused("for_s is no number of seconds.", remedy="Leave it out to pause until `resume`.")
    status.steering.pause(for_s)


async def _maintenance(status: StatusBoard, body: dict[str, Any]) -> None:
    if not isinstance(body.get("on"), bool):
        raise InputRefused("on is neither true nor false.", remedy='Send {"on": true} or {"on": false}.')
    await status.steering.set_maintenance(on=body["on"], message=str(body.get("message") or "")[:1000])


#: Path below /api → what it does. Each takes an object, which may be empty.
STEPS: dict[str, Step] = {
    "pause": _pause,
    "resume": lambda status, _: status.steering.resume(),
    "finish": lambda status, _: status.steering.finish(),
    "maintenance": _maintenance,
    "reload": lambda status, _: status.steering.reload_settings(),
}


async def _body(request: Request) -> dict[str, Any]:
    """The object that was sent; none at all is an empty one. Raises InputRefused."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BOUNDS.max_bytes:
            raise InputRefused(f"The request is larger than {BODY_BOUNDS.max_bytes} bytes.")
    return read_json_object(body, BODY_BOUNDS) if body.strip() else {}


def _number(text: str | None, default: int, most: int) -> int:
    if not text or not text.isdecimal() or len(text) > LONGEST_NUMBER:
        return default
    return min(int(text), most)


def _json(text: str, code: int = 200) -> Response:
    return Response(text, code, {"Cache-Control": "no-store"}, media_type="application/json")
