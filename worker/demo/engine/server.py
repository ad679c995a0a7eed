"""The HTTP and websocket routes of ComfyUI that the worker uses, with the node pack's own, over an `Executor`."""

import asyncio
import contextlib
import hmac
import io
import json
import os
import signal
import time
import traceback
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
from loguru import logger
from PIL import Image, UnidentifiedImageError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from worker.demo.engine.dialect import Dialect
from worker.demo.engine.executor import Executor, Prompt
from worker.demo.engine.graph import Size, Workflow
from worker.demo.engine.outbox import Outbox
from worker.demo.engine.script import FaultKind, claim_fault, read_script


def is_canonical(prompt_id: object) -> bool:
    """Whether ComfyUI takes this as the id of a prompt: a UUID with hyphens, in small letters.

    Older ones take any text; no dialect does here, so that nothing is sent that a newer one refuses.
    """
    try:
        return isinstance(prompt_id, str) and str(UUID(prompt_id)) == prompt_id
    except ValueError:
        return False


@dataclass(frozen=True)
class Gate:
    """ASGI middleware: our node pack's bearer token, where there is one, and the script's slowness."""

    app: ASGIApp
    token: str
    script: Path | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            await asyncio.sleep(read_script(self.script).answer_seconds)
            given = dict(scope["headers"]).get(b"authorization", b"")
            if self.token and not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                refusal = JSONResponse({"error": "unauthorized"}, 401)
                if scope["type"] == "websocket":
                    await WebSocket(scope, receive, send).send_denial_response(refusal)
                else:
                    await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Engine:
    """All that the routes share."""

    def __init__(
        self,
        classes: Mapping[str, Mapping[str, Any]],
        script: Path | None,
        *,
        dialect: Dialect,
        keeps_results: bool = False,
    ) -> None:
        self.classes = classes
        self.dialect = dialect
        self.script = script
        self.outbox = Outbox()
        self.pictures: dict[str, Size | None] = {}
        self.executor = Executor(self.outbox, script, self.pictures, keeps_results=keeps_results)
        self._number = 0

    def application(self, token: str) -> Starlette:
        routes = [
            Route("/system_stats", self.system_stats),
            Route("/object_info", self.object_info),
            Route("/prompt", self.prompt, methods=["POST"]),
            Route("/queue", self.queue),
            Route("/queue", self.change_queue, methods=["POST"]),
            Route("/interrupt", self.interrupt, methods=["POST"]),
            Route("/history/{prompt_id}", self.history),
            Route("/history", self.change_history, methods=["POST"]),
            Route("/free", self.free, methods=["POST"]),
            WebSocketRoute("/ws", self.websocket),
        ]
        if self.dialect.cancels_jobs:
            routes.append(Route("/api/jobs/{job_id}/cancel", self.cancel_job, methods=["POST"]))
        if "HordeImageInput" in self.classes:
            routes += [
                Route("/horde/inputs/{key}", self.put_picture, methods=["PUT"]),
                Route("/horde/inputs/{key}", self.drop_picture, methods=["DELETE"]),
                Route("/horde/memory", self.memory),
            ]
        gate = Middleware(Gate, token=token, script=self.script)
        return Starlette(routes=routes, middleware=[gate], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        # ComfyUI ends at once when asked to; uvicorn's own handler would wait for the websockets.
        deaf = read_script(self.script).ignore_sigterm
        signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else signal.SIG_DFL)
        life = asyncio.create_task(self._live())
        yield
        life.cancel()

    async def _live(self) -> None:
        try:
            await self.executor.run()
        except Exception:
            # A mistake in the double itself must not look like a fault it plays.
            traceback.print_exc()
            os._exit(70)

    async def system_stats(self, _: Request) -> Response:
        memory = psutil.virtual_memory()
        total, free = memory.total, memory.available
        system = {"os": os.name, "ram_total": total, "ram_free": free, "comfyui_version": self.dialect.version}
        vram = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
        return JSONResponse({"system": system, "devices": [{"name": "cpu", "type": "cpu", "index": None, **vram}]})

    async def memory(self, _: Request) -> Response:
        return JSONResponse({"paged": 0})

    async def object_info(self, _: Request) -> Response:
        return JSONResponse(self.classes)

    async def prompt(self, request: Request) -> Response:
        body = await request.json()
        await self._hold_back()
        if (given := body.get("prompt_id")) is not None and not is_canonical(given):
            text = "prompt_id must be a UUID in its canonical form"
            error = {"type": "invalid_prompt_id", "message": text, "details": "", "extra_info": {}}
            return JSONResponse({"error": error, "node_errors": {}}, 400)
        workflow = Workflow(body["prompt"], self.classes, self.dialect.no_such_node)
        refusal = workflow.refusal(self.pictures)
        if refusal is None and claim_fault(self.script, frozenset({FaultKind.REFUSAL}), workflow.checkpoint):
            error = {"type": "invalid_prompt", "message": "Refused by the script", "details": "", "extra_info": {}}
            refusal = {"error": error, "node_errors": {}}
        if refusal is not None:
            return JSONResponse(refusal, 400)
        prompt_id = str(body.get("prompt_id") or uuid4())
        number, self._number = self._number, self._number + 1
        await self.executor.put(Prompt(number, prompt_id, body.get("client_id", ""), workflow))
        return JSONResponse({"prompt_id": prompt_id, "number": number, "node_errors": {}})

    async def _hold_back(self) -> None:
        """Take the script's time with a prompt, whether or not its sender still listens, as ComfyUI's server does."""
        logger.info("Prompt received")
        began = time.monotonic()
        while time.monotonic() - began < read_script(self.script).accept_seconds:  # noqa: ASYNC110 - a file tells no event
            await asyncio.sleep(0.02)

    async def queue(self, _: Request) -> Response:
        running = [self.executor.running.listed()] if self.executor.running else []
        pending = [prompt.listed() for prompt in self.executor.pending]
        return JSONResponse({"queue_running": running, "queue_pending": pending})

    async def change_queue(self, request: Request) -> Response:
        for prompt_id in (await request.json()).get("delete", ()):
            await self.executor.delete(prompt_id)
        return Response()

    async def interrupt(self, request: Request) -> Response:
        self.executor.interrupt(json.loads(await request.body() or b"{}").get("prompt_id"))
        return Response()

    async def cancel_job(self, request: Request) -> Response:
        prompt_id = request.path_params["job_id"]
        waits = any(prompt.id == prompt_id for prompt in self.executor.pending)
        runs = self.executor.running is not None and self.executor.running.id == prompt_id
        logger.info("Cancelling {} prompt {}", "running" if runs else "pending" if waits else "unknown", prompt_id)
        if waits:
            await self.executor.delete(prompt_id)
        elif runs:
            self.executor.interrupt(prompt_id)
        return JSONResponse({"cancelled": waits or runs})

    async def history(self, request: Request) -> Response:
        prompt_id = request.path_params["prompt_id"]
        entry = self.executor.history.get(prompt_id)
        return JSONResponse({prompt_id: entry} if entry else {})

    async def change_history(self, request: Request) -> Response:
        for prompt_id in (await request.json()).get("delete", ()):
            self.executor.history.pop(prompt_id, None)
        return Response()

    async def free(self, request: Request) -> Response:
        body = await request.json()
        self.executor.free(unload_models=body.get("unload_models", False), free_memory=body.get("free_memory", False))
        return Response()

    async def put_picture(self, request: Request) -> Response:
        try:
            picture = Image.open(io.BytesIO(await request.body()))
        except UnidentifiedImageError:
            # No reason to refuse it: the node finds out when it runs.
            self.pictures[request.path_params["key"]] = None
        else:
            self.pictures[request.path_params["key"]] = Size(picture.width, picture.height)
        return JSONResponse({})

    async def drop_picture(self, request: Request) -> Response:
        self.pictures.pop(request.path_params["key"], None)
        return JSONResponse({})

    async def websocket(self, socket: WebSocket) -> None:
        await socket.accept()
        client_id = socket.query_params.get("clientId") or uuid4().hex
        self.outbox.connect(client_id, socket)
        try:
            status = {
                "exec_info": {"queue_remaining": len(self.executor.pending) + (self.executor.running is not None)}
            }
            await self.outbox.tell(client_id, "status", {"status": status, "sid": client_id})
            while True:
                message = json.loads(await socket.receive_text())
                if message.get("type") == "feature_flags":
                    flags = {
                        "supports_preview_metadata": True,
                        "max_upload_size": 104857600,
                        **self.dialect.features,
                    }
                    await self.outbox.tell(client_id, "feature_flags", flags)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self.outbox.disconnect(client_id, socket)
