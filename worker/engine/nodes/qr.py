"""A QR code as layers to build a picture around, each as large as the picture."""

#: Side of a module in pixels: two cells of a latent.
MODULE_PX = 16
TOO_LARGE = "This QR Code is too large for this image"
#: Border of `TOO_LARGE` in modules, whatever was asked for.
LEAST_BORDER = 1
#: A centred code lies on a multiple of GRID_PX; one that would stick out is put EDGE_PX from the edge. Pixels.
GRID_PX, EDGE_PX = 64, 10
#: Modules on a side of a finder pattern, by the QR code's standard.
PATTERN_MODULES = 7
#: Brightness around the code, neither light nor dark.
GREY = 0.5

#: Shape of modules → its class among qrcode's drawers.
DRAWERS = {
    "square": "SquareModuleDrawer",
    "gapped square": "GappedSquareModuleDrawer",
    "circle": "CircleModuleDrawer",
    "rounded": "RoundedModuleDrawer",
    "vertical bars": "VerticalBarsDrawer",
    "horizontal bars": "HorizontalBarsDrawer",
}


class HordeQrCode:
    """The whole code on grey, its data on grey, its finder patterns on white, and a mask of the patterns.

    A code that does not fit is replaced by one whose text says so.
    """

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": ""}),
                "width": ("INT", {"default": 1024, "min": 64, "max": 16384}),
                "height": ("INT", {"default": 1024, "min": 64, "max": 16384}),
                "x": ("INT", {"default": 0, "min": 0, "max": 16384}),
                "y": ("INT", {"default": 0, "min": 0, "max": 16384}),
                "border": ("INT", {"default": 1, "min": 0, "max": 64}),
                "drawer": (list(DRAWERS),),
            }
        }

    PACKAGES = ("qrcode",)
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE", "MASK")
    RETURN_NAMES = ("code", "data", "patterns", "patterns_mask")
    FUNCTION = "draw"
    CATEGORY = "horde"

    def draw(self, text, width, height, x, y, border, drawer):
        code, mask = drawn(text, min(width, height), border, drawer)
        corner = placed(x, width, code.shape[1]), placed(y, height, code.shape[0])
        light = code.new_ones(())
        layers = (
            on_ground(code, (width, height), corner, GREY),
            on_ground(code.where(~mask, light), (width, height), corner, GREY),
            on_ground(code.where(mask, light), (width, height), corner, 1.0),
        )
        whole_mask = on_ground(mask.float(), (width, height), corner, 0.0)
        return (*(layer[None, ..., None].repeat(1, 1, 1, 3) for layer in layers), whole_mask[None])


def drawn(text, side_px, border, drawer):
    """The code as brightness [S, S], and the mask of its finder patterns; S is `side_px` at most."""
    modules = _encoded(text, border)
    if modules is None or side_of(modules) * MODULE_PX > side_px:
        modules = _encoded(TOO_LARGE, LEAST_BORDER)
    module_px = min(MODULE_PX, side_px // side_of(modules))
    return _picture(modules, module_px, drawer), _pattern_mask(modules, module_px)


def side_of(modules):
    """The side of a code with its border, in modules."""
    return modules.modules_count + 2 * modules.border


def placed(offset, room, side):
    """Left or top edge of a code with this side, in pixels; an offset of 0 centres it."""
    if offset == 0:
        offset = (room - side) // 2 // GRID_PX * GRID_PX
    return max(0, room - side - EDGE_PX) if offset > room - side else offset


def on_ground(layer, size, corner, brightness):
    """A layer on a background of one brightness. Size and corner are (horizontal, vertical)."""
    (width, height), (left, top) = size, corner
    ground = layer.new_full((height, width), brightness)
    ground[top : top + layer.shape[0], left : left + layer.shape[1]] = layer
    return ground


def _encoded(text, border):
    """A code with the highest error correction; None for a text that no code holds."""
    import qrcode
    from qrcode.exceptions import DataOverflowError

    code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_H, border=border)
    code.add_data(text)
    try:
        code.make(fit=True)
    except (DataOverflowError, ValueError):
        return None
    return code


def _picture(modules, module_px, drawer):
    import numpy as np
    import torch
    from qrcode.image.styledpil import StyledPilImage
    from qrcode.image.styles.moduledrawers import pil

    modules.box_size = module_px
    picture = modules.make_image(image_factory=StyledPilImage, module_drawer=getattr(pil, DRAWERS[drawer])())
    return torch.from_numpy(np.array(picture.get_image().convert("L"), dtype=np.float32) / 255)


def _pattern_mask(modules, module_px):
    """The three finder patterns, without the border and the light line around them."""
    import torch

    side = side_of(modules) * module_px
    mask = torch.zeros(side, side, dtype=torch.bool)
    first = slice(modules.border * module_px, (modules.border + PATTERN_MODULES) * module_px)
    last = slice(side - first.stop, side - first.start)
    mask[first, first] = mask[first, last] = mask[last, first] = True
    return mask
