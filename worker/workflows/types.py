"""The vocabulary of this room: families, modes, features, dialects. Imports nothing of ours; every module uses it."""

from collections.abc import Iterator
from enum import Enum

#: The one workflow of the Horde that is more than a plain picture, as the payload's `workflow` names it.
QR_CODE = "qr_code"


def fold_baseline(text: str) -> str:
    """The baseline in lower case, its words joined by underscores instead of blanks or hyphens, for comparison."""
    return "_".join(text.casefold().replace("_", " ").replace("-", " ").split())


class _Registry(type):
    """Makes the class a collection of its registered instances, each also by its name in capitals."""

    def __iter__(cls) -> "Iterator[Family]":
        return iter(tuple(_FAMILIES.values()))

    def __len__(cls) -> int:
        return len(_FAMILIES)

    def __contains__(cls, name: object) -> bool:
        return isinstance(name, str) and name in _FAMILIES

    def __getattr__(cls, name: str) -> "Family":
        if name.lower() in _FAMILIES and name.isupper():
            return _FAMILIES[name.lower()]
        raise AttributeError(f"{name} is no known family; known are {', '.join(_FAMILIES)}")


class Family(str, metaclass=_Registry):
    """A model's baseline, by its name in the model reference. One object for each name, so that `is` compares.

    Open, unlike an enumeration: `families` registers what the data in comfy_workflows/ and an owner's folder names.
    `Family(name)` raises ValueError for a name that is not registered. No code here tells families apart by name.
    """

    __slots__ = ()

    def __new__(cls, name: object) -> "Family":  # noqa: PYI034 - the registered object, not a new one
        if not isinstance(name, str) or name not in _FAMILIES:
            raise ValueError(f"{name!r} is no known family; known are {', '.join(_FAMILIES)}")
        return _FAMILIES[name]

    @classmethod
    def register(cls, name: str) -> "Family":
        """The family of this name, made known if it was not."""
        if name not in _FAMILIES:
            _FAMILIES[name] = super().__new__(cls, name)
        return _FAMILIES[name]

    @property
    def value(self) -> str:
        """The name as a plain string."""
        return str.__str__(self)


_FAMILIES: dict[str, Family] = {}


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
    #: the picture conditions the model, beside the prompt
    REMIX = "remix"
    #: so do further pictures
    EXTRA_SOURCES = "extra_sources"
    #: a ControlNet guides the sampler
    CONTROL = "control"
    #: the ControlNet's map is made from the source picture first
    ANNOTATE = "annotate"
    #: the map itself is the result
    CONTROL_MAP = "control_map"
    #: the sampler is told more than its name
    SAMPLER_OPTIONS = "sampler_options"
    #: the steps are spent elsewhere on the way from noise to picture
    FLOW_SHIFT = "flow_shift"
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
