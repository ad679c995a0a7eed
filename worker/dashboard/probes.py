"""What a container's keeper asks: does it live, has it started, can it do jobs.

Nothing else is said, so no token is needed.
"""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from worker.status.board import StatusBoard
from worker.status.snapshot import Phase, Snapshot

OK, NOT_NOW = 200, 503
#: States of a slot whose engine can do a job.
ABLE = frozenset({"ready", "working"})


def routes(status: StatusBoard) -> list[Route]:
    """/healthz, /startupz and /readyz."""

    async def health(_: Request) -> Response:
        # That it answers says it: the event loop turns.
        return PlainTextResponse("ok\n")

    async def startup(_: Request) -> Response:
        return _answer(not_started(status.phase()))

    async def ready(_: Request) -> Response:
        return _answer(not_ready(status.snapshot()))

    return [Route("/healthz", health), Route("/startupz", startup), Route("/readyz", ready)]


def not_started(phase: Phase) -> str:
    """Why the start is not over; empty once an engine has been ready."""
    return "no engine has been ready yet" if phase is Phase.STARTING else ""


def not_ready(status: Snapshot) -> str:
    """Why no job can be done; empty when one can. A pause of the owner's is no reason: the worker is sound."""
    if status.phase is Phase.FINISHING:
        return "the worker is ending"
    if not any(slot.state in ABLE for slot in status.slots):
        return "no engine is ready"
    return ""


def _answer(reason: str) -> Response:
    return PlainTextResponse(f"{reason or 'ok'}\n", NOT_NOW if reason else OK)
