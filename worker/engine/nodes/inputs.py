"""Pictures received over HTTP and kept in memory, so that a requester's picture never touches the disk."""

import io
import threading
from collections import OrderedDict

import numpy as np
import torch
from aiohttp import web
from PIL import Image, ImageOps
from server import PromptServer

#: Bytes of encoded pictures kept; the oldest go first. A job has at most 7 pictures of a few MB each.
CAPACITY_BYTES = 512 * 1024 * 1024


class Pictures:
    """Encoded pictures by key. The HTTP server's thread writes, the executor's reads."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._by_key: OrderedDict[str, bytes] = OrderedDict()

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._by_key[key] = data
            self._by_key.move_to_end(key)
            while len(self._by_key) > 1 and sum(map(len, self._by_key.values())) > self._capacity_bytes:
                self._by_key.popitem(last=False)

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._by_key.get(key)

    def drop(self, key: str) -> None:
        with self._lock:
            self._by_key.pop(key, None)


PICTURES = Pictures(CAPACITY_BYTES)


def add_input_routes() -> None:
    """PUT and DELETE /horde/inputs/{key}; the body is any picture Pillow reads."""
    routes = PromptServer.instance.routes

    @routes.put("/horde/inputs/{key}")
    async def put_input(request):
        PICTURES.put(request.match_info["key"], await request.read())
        return web.json_response({})

    @routes.delete("/horde/inputs/{key}")
    async def delete_input(request):
        PICTURES.drop(request.match_info["key"])
        return web.json_response({})


def to_tensors(data: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """IMAGE [1, H, W, 3] in 0..1 and MASK [1, H, W], 1 where the picture is transparent."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    has_alpha = picture.has_transparency_data
    picture = picture.convert("RGBA" if has_alpha else "RGB")
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32) / 255.0)
    mask = 1.0 - pixels[..., 3] if has_alpha else torch.zeros(pixels.shape[:2])
    return pixels[None, ..., :3].contiguous(), mask[None]


class HordeImageInput:
    """A picture received before, by its key. No two pictures share a key, so ComfyUI may cache by it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"key": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load"
    CATEGORY = "horde"

    @classmethod
    def VALIDATE_INPUTS(cls, key):
        return True if PICTURES.get(key) is not None else f"no picture was handed in under {key!r}"

    def load(self, key):
        data = PICTURES.get(key)
        if data is None:
            raise ValueError(f"the picture {key!r} is gone from memory")
        return to_tensors(data)
