"""Finished images as raw pixels in one websocket frame each: no PNG on the engine's critical path.

Frame: 4 bytes event number (big-endian, written by ComfyUI), 4 bytes length of the header, the header as JSON,
then height x width x channels bytes, rows top-down. The header also tells what the prompt took of the card's memory,
where that can be measured.
"""

import json
import struct

import torch
from comfy_execution.utils import get_executing_context
from server import PromptServer

from .memory import meter

#: Outside the range ComfyUI uses for its own binary events.
RAW_IMAGE_EVENT = 1001


class HordeImageOutput:
    """Send every image of the batch to the client that queued the prompt."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}, "hidden": {"unique_id": "UNIQUE_ID"}}

    RETURN_TYPES = ()
    FUNCTION = "send"
    OUTPUT_NODE = True
    CATEGORY = "horde"

    @classmethod
    def IS_CHANGED(cls, images=None, unique_id=None):
        # Never equal to itself, hence never cached: asking again for a lost frame runs this node alone.
        return float("nan")

    def send(self, images, unique_id):
        server = PromptServer.instance
        prompt_id = get_executing_context().prompt_id
        memory = meter.report(prompt_id)
        count, height, width, channels = images.shape
        for index, image in enumerate(images):
            # Truncation, not rounding: what ComfyUI's own savers do. One by one: a batch may fill most of the memory.
            pixels = image.clamp(0, 1).mul(255).to(torch.uint8).cpu().contiguous()
            header = json.dumps(
                {
                    "prompt_id": prompt_id,
                    "node_id": unique_id,
                    "index": index,
                    "count": count,
                    "width": width,
                    "height": height,
                    "mode": {1: "L", 3: "RGB", 4: "RGBA"}[channels],
                    **memory,
                }
            ).encode()
            frame = struct.pack(">I", len(header)) + header + pixels.numpy().tobytes()
            server.send_sync(RAW_IMAGE_EVENT, frame, server.client_id)
        return {}
