"""Finished images as raw pixels, one websocket frame each, because encoding PNG would hold up the next job.

Frame: 4 bytes event number (big-endian, written by ComfyUI), 4 bytes length of the header, the header as JSON,
then height x width x channels bytes, rows top-down. The header also tells what the prompt took of the card's memory,
where that can be measured.
"""

import itertools
import json
import struct

import torch
from comfy_execution.utils import get_executing_context
from server import PromptServer

from .memory import meter

#: Outside the range ComfyUI uses for its own binary events.
RAW_IMAGE_EVENT = 1001


class ImageNotFinite(ValueError):
    """The images hold NaN or infinity: there is no picture. The worker knows this class by its name."""


class HordeImageOutput:
    """Send every image to the client that queued the prompt.

    A node upstream may give a list of batches, which ComfyUI would hand over one by one, each counted from 0.
    """

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}, "hidden": {"unique_id": "UNIQUE_ID"}}

    INPUT_IS_LIST = True
    RETURN_TYPES = ()
    FUNCTION = "send"
    OUTPUT_NODE = True
    CATEGORY = "horde"

    @classmethod
    def IS_CHANGED(cls, images=None, unique_id=None):
        # NaN never equals itself, so the result is never cached: asking again for a lost frame runs this node alone.
        return float("nan")

    def send(self, images, unique_id):
        server = PromptServer.instance
        prompt_id = get_executing_context().prompt_id
        memory = meter.report(prompt_id)
        # Before the images are clamped, which makes black and white of it.
        if not all(torch.isfinite(image).all() for batch in images for image in batch):
            raise ImageNotFinite("the images hold values that are no numbers")
        count = sum(map(len, images))
        for index, image in enumerate(itertools.chain.from_iterable(images)):
            height, width, channels = image.shape
            # Truncation, not rounding, like ComfyUI's savers. One by one, because a batch may fill most of the memory.
            pixels = image.clamp(0, 1).mul(255).to(torch.uint8).cpu().contiguous()
            header = json.dumps(
                {
                    "prompt_id": prompt_id,
                    "node_id": unique_id[0],
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
