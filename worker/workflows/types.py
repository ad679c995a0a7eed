"""The vocabulary of this room: families, modes, features, dialects. Imports nothing, so every module can use it."""

from enum import Enum

#: The one workflow of the Horde that is more than a plain picture, as the payload's `workflow` names it.
QR_CODE = "qr_code"


class Family(str, Enum):
    """A model's baseline, by its name in the model reference."""

    STABLE_DIFFUSION_1 = "stable_diffusion_1"
    STABLE_DIFFUSION_2_512 = "stable_diffusion_2_512"
    STABLE_DIFFUSION_2_768 = "stable_diffusion_2_768"
    STABLE_DIFFUSION_XL = "stable_diffusion_xl"
    STABLE_CASCADE = "stable_cascade"
    FLUX_1 = "flux_1"
    FLUX_SCHNELL = "flux_schnell"
    FLUX_DEV = "flux_dev"
    QWEN_IMAGE = "qwen_image"
    Z_IMAGE_TURBO = "z_image_turbo"


class Mode(str, Enum):
    """What a picture is made from: the Horde's `source_processing`, and txt2img for none."""

    TXT2IMG = "txt2img"
    IMG2IMG = "img2img"
    INPAINTING = "inpainting"
    OUTPAINTING = "outpainting"
    REMIX = "remix"


class Feature(str, Enum):
    """One thing that a request needs beyond a plain picture. A fragment adds it, or a template does it by itself."""

    LORAS = "loras"
    #: the request uses a source picture, in whatever way
    PICTURE = "picture"
    #: sampling starts from the source picture
    SOURCE = "source"
    #: only the masked part is sampled
    MASK = "mask"
    #: the masked part is repainted by a model that was not made for inpainting
    INPAINT = "inpaint"
    #: the masked part is repainted by an inpainting model
    INPAINT_MODEL = "inpaint_model"
    #: a batch that starts from one picture
    REPEAT = "repeat"
    #: the picture conditions the model, beside the prompt (Stable Cascade)
    REMIX = "remix"
    #: so do further pictures
    EXTRA_SOURCES = "extra_sources"
    #: a ControlNet guides the sampler
    CONTROL = "control"
    #: the ControlNet's map is made from the source picture first
    ANNOTATE = "annotate"
    #: the map itself is the result
    CONTROL_MAP = "control_map"
    TILING = "tiling"
    TRANSPARENT = "transparent"
    HIRES = "hires"
    FACE_FIX = "face_fix"
    UPSCALE = "upscale"
    STRIP_BACKGROUND = "strip_background"
    #: nothing reads the negative prompt, so that it need not be encoded
    UNREAD_NEGATIVE = "unread_negative"
    #: every request has this one: the finished pictures leave the graph
    OUTPUT = "output"


class Dialect(str, Enum):
    """Which nodes carry pictures in and out: our node pack's, or those of stock ComfyUI."""

    PACK = "pack"
    STOCK = "stock"
