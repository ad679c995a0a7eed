"""The way to the clients: JSON events and picture frames over their websockets, in ComfyUI's formats."""

import io
import json
import random
import struct
from typing import Any

from PIL import Image
from starlette.websockets import WebSocket, WebSocketDisconnect

from worker.demo.engine.graph import Node, Size
from worker.engine.events import IMAGE_WITH_METADATA_EVENT, RAW_IMAGE_EVENT

#: Side of the noise that is blown up to a picture.
NOISE_SIDE = 8
#: Websocket close code for "internal error".
INTERNAL_ERROR = 1011


class Outbox:
    """The connected clients by the id they chose. What is sent to a client that is not connected is lost."""

    def __init__(self) -> None:
        self._sockets: dict[str, WebSocket] = {}

    def connect(self, client_id: str, socket: WebSocket) -> None:
        self._sockets[client_id] = socket

    def disconnect(self, client_id: str, socket: WebSocket) -> None:
        """Forget a websocket, unless the client is back on another one."""
        if self._sockets.get(client_id) is socket:
            del self._sockets[client_id]

    async def drop(self, client_id: str) -> None:
        """Close a client's websocket from this side."""
        socket = self._sockets.pop(client_id, None)
        if socket is not None:
            await socket.close(INTERNAL_ERROR)

    async def tell(self, client_id: str, kind: str, data: dict[str, Any]) -> None:
        await self._send(client_id, json.dumps({"type": kind, "data": data}))

    async def tell_all(self, kind: str, data: dict[str, Any]) -> None:
        for client_id in list(self._sockets):
            await self.tell(client_id, kind, data)

    async def send_frame(self, client_id: str, frame: bytes) -> None:
        await self._send(client_id, frame)

    async def _send(self, client_id: str, message: str | bytes) -> None:
        socket = self._sockets.get(client_id)
        if socket is None:
            return
        try:
            await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
        except (WebSocketDisconnect, RuntimeError):
            # The client hung up.
            self.disconnect(client_id, socket)


def paint(source: Node, signature: str, size: Size, index: int) -> Image.Image:
    """Picture `index` of what `source` makes: one colour for EmptyImage, else soft noise that its signature decides."""
    shape = (size.width, size.height)
    if source["class_type"] == "EmptyImage":
        colour = source["inputs"].get("color", 0)
        return Image.new("RGB", shape, ((colour >> 16) & 255, (colour >> 8) & 255, colour & 255))
    noise = random.Random(f"{signature}/{index}").randbytes(NOISE_SIDE * NOISE_SIDE * 3)
    return Image.frombytes("RGB", (NOISE_SIDE, NOISE_SIDE), noise).resize(shape, Image.Resampling.BICUBIC)


def raw_frame(
    prompt_id: str, node_id: str, picture: Image.Image, index: int, count: int, *, memory: dict[str, int] | None = None
) -> bytes:
    """What our node pack's `HordeImageOutput` sends for one picture of a batch."""
    header = json.dumps(
        {
            "prompt_id": prompt_id,
            "node_id": node_id,
            "index": index,
            "count": count,
            "width": picture.width,
            "height": picture.height,
            "mode": picture.mode,
            **({"memory": memory} if memory else {}),
        }
    ).encode()
    return struct.pack(">II", RAW_IMAGE_EVENT, len(header)) + header + picture.tobytes()


def png_frame(prompt_id: str, node_id: str, picture: Image.Image) -> bytes:
    """What `SaveImageWebsocket` sends to a client that announced `supports_preview_metadata`."""
    metadata = json.dumps(
        {
            "node_id": node_id,
            "prompt_id": prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
            "image_type": "image/png",
        }
    ).encode()
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return struct.pack(">II", IMAGE_WITH_METADATA_EVENT, len(metadata)) + metadata + out.getvalue()
