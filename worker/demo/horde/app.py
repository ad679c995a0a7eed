"""The embedded Horde as an ASGI application: routes, latencies, and the faults of a plan made real."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.demo.horde import hostile
from worker.demo.horde.broken import BrokenResponse, DrippingResponse, RawResponse
from worker.demo.horde.faults import Fault, FaultKind, FaultPlan, Route
from worker.demo.horde.records import Refused
from worker.demo.horde.state import EmbeddedHorde
from worker.demo.horde.storage import UPLOADS

#: Larger bodies are refused; no WebP of an image that the Horde allows comes near.
_LARGEST_BODY_BYTES = 64 * 1024 * 1024
_GARBAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"

#: Where hostile pictures are, by their kinds; for answers of pops that a fault rewrites.
HOSTILE_PICTURES = "/hostile/"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Latencies:
    """How long each answer takes at least, as over a real network."""

    api_s: float = 0.0
    upload_s: float = 0.0

    def of(self, route: Route) -> float:
        return self.upload_s if route in {Route.UPLOAD, Route.DOWNLOAD} else self.api_s


class HordeApp:
    """The ASGI application. `release` ends all that hangs, so that the server can stop."""

    def __init__(self, state: EmbeddedHorde, latency: Latencies, faults: FaultPlan) -> None:
        self._state = state
        self._latency = latency
        self._faults = faults
        self._released = asyncio.Event()
        self._routes: ASGIApp = Starlette(routes=self._paths(), exception_handlers={Refused: _refuse})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routes(scope, receive, send)

    def release(self) -> None:
        """Call from the server's own loop."""
        self._released.set()

    def _paths(self) -> list[Path]:
        api = "/api/v2"
        return [
            self._path(Route.POP, "POST", f"{api}/generate/pop", self._pop),
            self._path(Route.SUBMIT, "POST", f"{api}/generate/submit", self._submit),
            self._path(Route.REQUESTER, "POST", f"{api}/generate/async", self._async),
            self._path(Route.REQUESTER, "GET", f"{api}/generate/check/{{id}}", self._check),
            self._path(Route.REQUESTER, "GET", f"{api}/generate/status/{{id}}", self._status),
            self._path(Route.REQUESTER, "DELETE", f"{api}/generate/status/{{id}}", self._cancel),
            self._path(Route.FIND_USER, "GET", f"{api}/find_user", self._find_user),
            self._path(Route.WORKERS, "GET", f"{api}/workers", self._workers),
            self._path(Route.WORKERS, "GET", f"{api}/workers/name/{{id}}", self._worker),
            self._path(Route.WORKERS, "GET", f"{api}/workers/{{id}}", self._worker),
            self._path(Route.WORKERS, "PUT", f"{api}/workers/{{id}}", self._modify_worker),
            self._path(Route.STATUS, "GET", f"{api}/status/models", self._models),
            self._path(Route.STATUS, "GET", f"{api}/status/performance", self._performance),
            self._path(Route.STATUS, "GET", f"{api}/status/heartbeat", self._heartbeat),
            self._path(Route.UPLOAD, "PUT", "/r2/{bucket}/{name}", self._upload),
            self._path(Route.DOWNLOAD, "GET", "/r2/{bucket}/{name}", self._download),
            Path("/accounting", self._accounting, methods=["GET"]),
            Path(f"{HOSTILE_PICTURES}{{kind}}", self._hostile_picture, methods=["GET"]),
        ]

    def _path(self, route: Route, method: str, path: str, handler: Handler) -> Path:
        async def endpoint(request: Request) -> Response:
            fault = self._faults.strike(route)
            # Whole before the answer takes its time, as by a real server: who is gone by then has asked nevertheless.
            request.state.content = await _received(request)
            await self._pause(self._latency.of(route))
            return await handler(request) if fault is None else await self._spoil(request, handler, fault)

        return Path(path, endpoint, methods=[method])

    # Handlers: from HTTP to the state and back

    async def _pop(self, request: Request) -> Response:
        fault: Fault | None = getattr(request.state, "fault", None)
        skewed = fault is not None and fault.kind is FaultKind.CLOCK_SKEW
        answer = self._state.pop(
            _api_key(request),
            _json(request),
            base_url=_base_url(request),
            clock_skew_s=fault.seconds if fault is not None and skewed else 0.0,
        )
        request.state.handed_out = answer["ids"]
        if answer["ids"] and await request.is_disconnected():
            self._state.undelivered(answer["ids"])
        return JSONResponse(answer)

    async def _submit(self, request: Request) -> Response:
        body = _json(request)
        request.state.submitted = str(body.get("id")) if isinstance(body, dict) else ""
        answer = self._state.submit(_api_key(request), body)
        if await request.is_disconnected():
            self._state.unheard(request.state.submitted)
        return JSONResponse(answer)

    async def _async(self, request: Request) -> Response:
        status, answer = self._state.request_images(_api_key(request), _json(request))
        return JSONResponse(answer, status)

    async def _check(self, request: Request) -> Response:
        return JSONResponse(self._state.check(request.path_params["id"]))

    async def _status(self, request: Request) -> Response:
        return JSONResponse(self._state.status(request.path_params["id"], base_url=_base_url(request)))

    async def _cancel(self, request: Request) -> Response:
        return JSONResponse(self._state.cancel(request.path_params["id"], base_url=_base_url(request)))

    async def _find_user(self, request: Request) -> Response:
        return JSONResponse(self._state.find_user(_api_key(request)))

    async def _workers(self, request: Request) -> Response:
        del request
        return JSONResponse(self._state.workers())

    async def _worker(self, request: Request) -> Response:
        return JSONResponse(self._state.worker(request.path_params["id"], request.headers.get("apikey", "")))

    async def _modify_worker(self, request: Request) -> Response:
        body = _json(request)
        return JSONResponse(self._state.modify_worker(_api_key(request), request.path_params["id"], body))

    async def _models(self, request: Request) -> Response:
        del request
        return JSONResponse(self._state.models())

    async def _heartbeat(self, request: Request) -> Response:
        del request
        return JSONResponse(self._state.heartbeat())

    async def _performance(self, request: Request) -> Response:
        del request
        return JSONResponse(self._state.performance())

    async def _upload(self, request: Request) -> Response:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        if bucket != UPLOADS:
            raise Refused(403, "AccessDenied", "Uploads go to one bucket only.")
        self._state.storage.authorize("PUT", bucket, name, request.query_params, now=self._state.clock())
        self._state.storage.put(bucket, name, request.state.content)
        return Response(status_code=200)

    async def _download(self, request: Request) -> Response:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        self._state.storage.authorize("GET", bucket, name, request.query_params, now=self._state.clock())
        return Response(self._state.storage.get(bucket, name), media_type="image/webp")

    async def _accounting(self, request: Request) -> Response:
        """Not a part of the Horde's API: the books, for a bench that has started this server as a process."""
        del request
        return JSONResponse({**self._state.accounting().as_dict(), "faults_injected": self._faults.struck})

    async def _hostile_picture(self, request: Request) -> Response:
        """Not a part of the Horde: a host that a hostile requester names."""
        kind = request.path_params["kind"]
        return RawResponse(hostile.picture(kind), self._pause, endless=kind in hostile.ENDLESS)

    # Faults

    async def _spoil(self, request: Request, handler: Handler, fault: Fault) -> Response:
        request.state.fault = fault
        answer = await self._true_answer(request, handler) if fault.takes_effect else Response(request.state.content)

        def lost() -> None:
            self._state.undelivered(_handed_out(request))
            if submitted := getattr(request.state, "submitted", ""):
                self._state.unheard(submitted)

        match fault.kind:
            case FaultKind.CLOCK_SKEW:
                return answer
            case FaultKind.DRIP:
                return DrippingResponse(answer, fault.seconds, self._pause, lost)
            case FaultKind.HOSTILE if fault.takes_effect and not _handed_out(request):
                return answer
            case FaultKind.HOSTILE:
                return RawResponse(fault.rewrite(bytes(answer.body)), self._pause)
        lost()
        return await self._failed(request, answer, fault)

    async def _failed(self, request: Request, answer: Response, fault: Fault) -> Response:
        """What stands in the place of an answer that is lost."""
        match fault.kind:
            case FaultKind.STATUS:
                return _failure(fault)
            case FaultKind.GARBAGE:
                return Response(_GARBAGE, media_type="text/html")
            case FaultKind.TRUNCATED:
                return Response(bytes(answer.body)[: len(answer.body) // 2], media_type="application/json")
            case FaultKind.EXPIRED:
                return await _refuse(request, Refused(403, "AccessDenied", "Request has expired"))
            case FaultKind.HANG:
                return BrokenResponse(fault.seconds, self._pause)
            case _:
                return BrokenResponse(0.0, self._pause)

    async def _true_answer(self, request: Request, handler: Handler) -> Response:
        try:
            return await handler(request)
        except Refused as refused:
            return await _refuse(request, refused)

    async def _pause(self, seconds: float) -> None:
        """Waits, but not beyond the server's end."""
        if seconds <= 0 or self._released.is_set():
            return
        try:
            await asyncio.wait_for(self._released.wait(), seconds)
        except asyncio.TimeoutError:
            return


def create_app(state: EmbeddedHorde, *, latency: Latencies | None = None, faults: FaultPlan | None = None) -> HordeApp:
    """The whole server for one Horde."""
    return HordeApp(state, latency or Latencies(), faults or FaultPlan())


def _api_key(request: Request) -> str:
    try:
        return request.headers["apikey"]
    except KeyError:
        errors = {"apikey": "Missing required parameter in the HTTP headers"}
        raise Refused(400, "", "Input payload validation failed", errors=errors) from None


def _base_url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


async def _received(request: Request) -> bytes:
    """The body. Raises Refused (413) for one that is larger than any image."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _LARGEST_BODY_BYTES:
            raise Refused(413, "EntityTooLarge", "The body is too large.")
    return bytes(data)


def _json(request: Request) -> Any:
    try:
        return json.loads(request.state.content)
    except ValueError:
        raise Refused(400, "", "The body is no JSON.") from None


async def _refuse(request: Request, refused: Exception) -> Response:
    """A no in the words of the side that says it: JSON from the API, XML from the storage."""
    if not isinstance(refused, Refused):
        raise refused
    if request.url.path.startswith("/r2/"):
        text = f"<Error><Code>{refused.rc}</Code><Message>{refused}</Message></Error>"
        return Response(text, refused.status, media_type="application/xml")
    return JSONResponse(refused.body, refused.status)


def _handed_out(request: Request) -> list[str]:
    """Ids in the answer of a pop; none for all other requests."""
    return list(getattr(request.state, "handed_out", ()))


def _failure(fault: Fault) -> Response:
    if fault.status == HTTPStatus.TOO_MANY_REQUESTS:
        headers = {"Retry-After": str(fault.retry_after_s)}
        return JSONResponse({"message": "2 per 1 second"}, fault.status, headers)
    return JSONResponse({"message": "Internal Server Error"}, fault.status)
