"""Upscaling with a network, image by image and tile by tile.

ComfyUI's own node hands the whole batch to the card; here one image is there at a time, and tiles shrink when even
that is too much.
"""

import contextlib

import torch

from .memory import out_of_memory

TILE_PX, OVERLAP_PX, SMALLEST_TILE_PX = 512, 32, 128
#: Channels that the networks take.
COLOURS = 3
#: Working memory, in bytes, for each byte of a tile and each unit of scale; ComfyUI's estimate.
WORK_PER_BYTE = 384


class HordeImageUpscale:
    """Every image of the batch, enlarged by the network's scale; alpha is enlarged with it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"upscale_model": ("UPSCALE_MODEL",), "images": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"
    CATEGORY = "horde"

    def upscale(self, upscale_model, images):

        scale = upscale_model.scale
        work_bytes = COLOURS * TILE_PX**2 * images.element_size() * max(scale, 1) * WORK_PER_BYTE
        count, height, width, channels = images.shape
        # On the CPU: the enlarged batch may not fit on the card.
        result = torch.empty((count, height * scale, width * scale, channels))
        with _on_card(upscale_model, work_bytes) as device:
            tile_px = TILE_PX
            for image, enlarged in zip(images.movedim(-1, 1), result.movedim(-1, 1), strict=True):
                tile_px = _enlarge(upscale_model, image[None, :COLOURS].to(device), enlarged[None, :COLOURS], tile_px)
                if channels > COLOURS:
                    alpha = torch.nn.functional.interpolate(
                        image[None, COLOURS:].float(), scale_factor=scale, mode="bilinear"
                    )
                    enlarged[None, COLOURS:] = alpha.to("cpu")
        return (result.clamp_(0, 1),)


@contextlib.contextmanager
def _on_card(upscale_model, work_bytes):
    """Hold the network on the device that it yields, with room for the work.

    Newer ComfyUI manages the networks of its loader like other models, and must not have them moved by hand.
    """
    from comfy import model_management

    patcher = getattr(upscale_model, "patcher", None)
    if patcher is not None:
        model_management.load_models_gpu([patcher], memory_required=work_bytes, force_full_load=True)
        yield patcher.load_device
        return
    device = model_management.get_torch_device()
    model_management.free_memory(model_management.module_size(upscale_model.model) + work_bytes, device)
    upscale_model.to(device)
    try:
        yield device
    finally:
        upscale_model.to("cpu")


def _enlarge(model, image, result, tile_px):
    """Fill `result`. Returns the tile size that fitted, for the next image to begin with."""
    from comfy import model_management, utils

    while True:
        steps = utils.get_tiled_scale_steps(image.shape[3], image.shape[2], tile_px, tile_px, OVERLAP_PX)
        try:
            result[:] = utils.tiled_scale(
                image,
                model,
                tile_x=tile_px,
                tile_y=tile_px,
                overlap=OVERLAP_PX,
                upscale_amount=model.scale,
                pbar=utils.ProgressBar(steps),
            )
        except Exception as error:
            if not out_of_memory(error):
                raise
            tile_px //= 2
            if tile_px < SMALLEST_TILE_PX:
                raise
            model_management.soft_empty_cache()
        else:
            return tile_px
