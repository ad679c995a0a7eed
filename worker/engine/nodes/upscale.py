"""Upscaling with a network, image by image and tile by tile.

ComfyUI's own node hands the whole batch to the card; here one image is there at a time, and tiles shrink when even
that is too much.
"""

import torch

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
        from comfy import model_management

        device = model_management.get_torch_device()
        scale = upscale_model.scale
        tile_bytes = COLOURS * TILE_PX**2 * images.element_size()
        model_bytes = model_management.module_size(upscale_model.model)
        model_management.free_memory(model_bytes + tile_bytes * max(scale, 1) * WORK_PER_BYTE, device)
        count, height, width, channels = images.shape
        # On the CPU: the enlarged batch may not fit on the card.
        result = torch.empty((count, height * scale, width * scale, channels))
        upscale_model.to(device)
        try:
            tile_px = TILE_PX
            for image, enlarged in zip(images.movedim(-1, 1), result.movedim(-1, 1), strict=True):
                tile_px = _enlarge(upscale_model, image[None, :COLOURS].to(device), enlarged[None, :COLOURS], tile_px)
                if channels > COLOURS:
                    alpha = torch.nn.functional.interpolate(
                        image[None, COLOURS:].float(), scale_factor=scale, mode="bilinear"
                    )
                    enlarged[None, COLOURS:] = alpha.to("cpu")
        finally:
            upscale_model.to("cpu")
        return (result.clamp_(0, 1),)


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
        except model_management.OOM_EXCEPTION:
            tile_px //= 2
            if tile_px < SMALLEST_TILE_PX:
                raise
            model_management.soft_empty_cache()
        else:
            return tile_px
