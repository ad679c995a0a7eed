"""RenderRequest: everything a graph needs of one job, clamped and in ComfyUI's terms. `payload` makes one."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from worker.workflows.types import Family, Mode

#: ComfyUI's seeds have 64 bits.
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class ServedModel:
    """An image model whose files are on disk.

    `files`: purpose → file name as ComfyUI lists it. Purposes are checkpoint, or unet, text_encoder, text_encoder_2
    and vae, or stage_b and stage_c.
    """

    name: str
    family: Family
    files: Mapping[str, str]
    inpainting: bool = False

    @property
    def kind(self) -> str:
        """Family, and "inpainting" where it is an inpainting model; for messages."""
        return f"{self.family.value} inpainting" if self.inpainting else self.family.value


@dataclass(frozen=True)
class LoraWish:
    """A LoRA as a payload names it; the model manager finds its file."""

    name: str
    #: strength on the diffusion model
    model: float = 1.0
    #: strength on the text encoders
    clip: float = 1.0
    inject_trigger: str | None = None
    #: `name` is a version id of CivitAI
    is_version: bool = False


@dataclass(frozen=True)
class LoraFile:
    """A LoRA whose file is on disk; `file` as ComfyUI lists it.

    `trigger` is the payload's inject_trigger (any, all, or a text); `words` are the LoRA's trigger words.
    """

    file: str
    model: float = 1.0
    clip: float = 1.0
    trigger: str | None = None
    words: tuple[str, ...] = ()


class EmbeddingTarget(str, Enum):
    """The text that an embedding is written into, as `inject_ti` names it."""

    PROMPT = "prompt"
    NEGATIVE = "negprompt"


@dataclass(frozen=True)
class EmbeddingWish:
    """A textual inversion as a payload names it. Without a target the prompt itself mentions it."""

    name: str
    strength: float = 1.0
    target: EmbeddingTarget | None = None


@dataclass(frozen=True)
class Embedding:
    """A textual inversion whose file is on disk. `file`: without its suffix, as `embedding:file` finds it."""

    file: str
    strength: float = 1.0
    target: EmbeddingTarget | None = None


@dataclass(frozen=True)
class SourceImage:
    """A requester's picture, by its key in the engine's memory. Sizes in pixels."""

    key: str
    width: int
    height: int
    #: the alpha channel is the mask: transparent parts are repainted
    has_alpha: bool = False
    #: noise, for a model that needs a picture when the job brings none
    stand_in: bool = False


@dataclass(frozen=True)
class ExtraSource:
    """A further picture of a remix, and its weight."""

    image: SourceImage
    strength: float = 1.0


@dataclass(frozen=True)
class ExtraText:
    """One entry of the payload's extra_texts."""

    text: str
    reference: str


@dataclass(frozen=True)
class PostProcessorModel:
    """The network of a face fixer or upscaler; `file` as ComfyUI lists it."""

    file: str


@dataclass(frozen=True)
class QrCode:
    """A QR code to draw. Offsets in pixels, 0 for centred; border in modules."""

    text: str
    x: int
    y: int
    border: int
    #: shape of the modules
    drawer: str
    #: prompt for the finder patterns (the three corners)
    prompt: str


@dataclass(frozen=True)
class GenMetadataNote:
    """One entry of the Horde's gen_metadata: something the requester is told about the result."""

    type: str
    value: str
    ref: str | None = None


@dataclass(frozen=True)
class RenderRequest:
    """One job as its graph needs it. Sizes in pixels, multiples of 64; strengths and denoise as fractions."""

    model: ServedModel
    mode: Mode
    workflow: str
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float
    width: int
    height: int
    #: size of the first pass of a hires fix; width and height without one
    first_width: int
    first_height: int
    hires: bool
    hires_steps: int
    hires_denoise: float
    batch: int
    clip_skip: int
    tiling: bool
    transparent: bool
    control_type: str | None
    #: ControlNet for the control type or workflow, as ComfyUI lists it; None where the model has none
    control_file: str | None
    #: what a ControlNet for several control types is told of this one; `auto` for one that need not be told
    control_union_type: str | None
    control_strength: float
    image_is_control: bool
    return_control_map: bool
    #: face fixers, then upscalers, then strip_background
    post_processing: tuple[str, ...]
    #: networks of the face fixers and upscalers among them
    face_fixers: tuple[PostProcessorModel, ...]
    upscalers: tuple[PostProcessorModel, ...]
    face_fixer_strength: float
    loras: tuple[LoraFile, ...]
    source: SourceImage | None
    extra_sources: tuple[ExtraSource, ...]
    extra_texts: tuple[ExtraText, ...]
    #: only for the workflow qr_code
    qr: QrCode | None = None
    #: what the sampler is told beside its name, as JSON with ComfyUI's names; "" for nothing
    sampler_options: str = ""
    #: of a flow model's time; None for the model's own
    flow_shift: float | None = None
    notes: tuple[GenMetadataNote, ...] = ()

    @property
    def masked(self) -> bool:
        """Only a part of the source picture is repainted."""
        return self.source is not None and self.source.has_alpha
