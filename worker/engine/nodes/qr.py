"""A QR code as the layers that a picture is built around, each as large as the picture."""

#: Side of a module in pixels: two cells of a latent.
MODULE_PX = 16
TOO_LARGE = "This QR Code is too large for this image"
#: Modules around `TOO_LARGE`, whatever border was asked for.
LEAST_BORDER = 1
#: A code in the middle lies on a multiple of this, one that would stick out this far from the edge; in pixels.
GRID_PX, EDGE_PX = 64, 10
#: Modules on a side of a corner pattern, with the light line around it.
PATTERN_MODULES = 8
#: Brightness of the ground around the data, which is neither light nor dark.
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
    """The whole code and its data on grey, its corner patterns on white, and a mask of the patterns.

    What does not fit is replaced by a text that says so.
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
    """The code as brightness [S, S] and where its corner patterns are; not larger than `side_px`."""
    modules = _encoded(text, border)
    if modules is None or side_of(modules) * MODULE_PX > side_px:
        modules = _encoded(TOO_LARGE, LEAST_BORDER)
    module_px = min(MODULE_PX, side_px // side_of(modules))
    return _picture(modules, module_px, drawer), _pattern_mask(modules, module_px)


def side_of(modules):
    """The side of a code with its border, in modules."""
    return modules.modules_count + 2 * modules.border


def placed(offset, room, side):
    """Where a code of this side begins, in pixels; 0 asks for the middle."""
    if offset == 0:
        offset = (room - side) // 2 // GRID_PX * GRID_PX
    return max(0, room - side - EDGE_PX) if offset > room - side else offset


def on_ground(layer, size, corner, brightness):
    """A layer on a ground of one brightness. Size and corner are horizontal first."""
    (width, height), (left, top) = size, corner
    ground = layer.new_full((height, width), brightness)
    ground[top : top + layer.shape[0], left : left + layer.shape[1]] = layer
    return ground


def _encoded(text, border):
    """The code that stands half covered, or None when no code holds the text."""
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
    """Three corners, with the border beside them."""
    import torch

    side = side_of(modules) * module_px
    reach = (PATTERN_MODULES + modules.border) * module_px
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[:reach, :reach] = mask[:reach, -reach:] = mask[-reach:, :reach] = True
    return mask
