"""What a model file holds, by the names and shapes in its header: whether it can be loaded, and for which family.

Only what is certain is judged: a file with names that are not known here is taken as what its owner says it is.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.errors import InputRefused
from worker.models.disk.pickles import find_code
from worker.untrusted.safetensors_header import DTYPE_BITS, SafetensorsHeader, read_safetensors_header
from worker.workflows.types import Family

_SD2: Final = frozenset({Family.STABLE_DIFFUSION_2_512, Family.STABLE_DIFFUSION_2_768})
_FLUX: Final = frozenset({Family.FLUX_1, Family.FLUX_SCHNELL, Family.FLUX_DEV})
#: Width of the text that cross-attention reads → families, by the name a person knows.
_TEXT_WIDTHS: Final[Mapping[int, tuple[str, frozenset[Family]]]] = {
    768: ("Stable Diffusion 1.x", frozenset({Family.STABLE_DIFFUSION_1})),
    1024: ("Stable Diffusion 2.x", _SD2),
    2048: ("Stable Diffusion XL", frozenset({Family.STABLE_DIFFUSION_XL})),
}
#: Part of a tensor's name in a LoRA, with underscores for dots → name of the family, and those of ours. The first that
#: is found counts.
_LORA_MARKS: Final = (
    ("img_mlp_net", "Qwen-Image", frozenset({Family.QWEN_IMAGE})),
    ("joint_blocks_", "Stable Diffusion 3", frozenset[Family]()),
    ("single_transformer_blocks_", "Flux", _FLUX),
    ("lora_unet_single_blocks_", "Flux", _FLUX),
    ("lora_unet_double_blocks_", "Flux", _FLUX),
    ("diffusion_model_single_blocks_", "Flux", _FLUX),
    ("double_blocks_0_processor_", "Flux", _FLUX),
    ("diffusion_model_double_blocks_", "Flux", _FLUX),
    ("layers_0_feed_forward_w1", "Z-Image", frozenset({Family.Z_IMAGE_TURBO})),
    ("cross_attn_k_img", "Wan", frozenset[Family]()),
    ("self_attn_norm_k", "Wan", frozenset[Family]()),
    ("lora_prior_unet_", "Stable Cascade", frozenset({Family.STABLE_CASCADE})),
)
#: Endings of the tensors that ComfyUI 0.3.75 takes from a LoRA file (LoRA, LoHa, LoKr, OFT, GLoRA, full differences).
_LORA_ENDINGS: Final = re.compile(
    r"(?:[._]lora[12]?[._](?:up|down|A|B)(?:\.default)?(?:\.weight)?|\.lora_linear_layer\.(?:up|down)\.weight|"
    r"\.hada_w[12]_[ab]|\.lokr_w[12](?:_[ab])?|\.oft_blocks|\.oft_diag|\.[ab][12]\.weight|\.diff(?:_b)?|\.set_weight|"
    r"\.w_norm|\.b_norm)$"
)
#: Up-projection → its down-projection; the two share the rank.
_PAIRS: Final = (
    ("lora_up.weight", "lora_down.weight"), ("lora.up.weight", "lora.down.weight"), ("lora_B.weight", "lora_A.weight"),
    ("lora_B.default.weight", "lora_A.default.weight"),
    ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight"),
)  # fmt: skip
#: Where a checkpoint keeps its VAE and its text encoders, by the loaders of ComfyUI 0.3.75.
_VAE: Final = ("first_stage_model.", "vae.")
_TEXT_ENCODERS: Final = ("cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder.")
#: Widths of the text encoders' vectors: CLIP-L, CLIP-H, CLIP-G, T5-XXL and Qwen2.5-VL, Qwen3-4B.
_VECTOR_WIDTHS: Final = frozenset({768, 1024, 1280, 4096, 3584, 2560})
_UNET: Final = "model.diffusion_model."

#: Families whose files are told apart by the names above.
_JUDGED: Final = frozenset(
    {Family.STABLE_DIFFUSION_1, *_SD2, Family.STABLE_DIFFUSION_XL, *_FLUX}
    | {Family.STABLE_CASCADE, Family.QWEN_IMAGE, Family.Z_IMAGE_TURBO}
)
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Contents:
    """`damage` says, after "it", why the file can't be loaded; "" where nothing is known against it.

    `family` is the name of the family it was made for, "" where that is not known, `families` ours among them.
    """

    damage: str = ""
    family: str = ""
    families: frozenset[Family] = frozenset()
    is_lora: bool = False
    is_diffusion_model: bool = False
    has_vae: bool = False
    has_text_encoder: bool = False
    #: tensors that can be the vectors of a textual inversion; None where the file does not list its tensors
    has_vectors: bool | None = None

    def fits(self, family: Family) -> bool:
        """Whether it may be for this family, unless known to be for others. Families that owners add are not judged."""
        return not self.family or family in self.families or family not in _JUDGED


def read_contents(path: Path, *, suffix: str = "") -> Contents:
    """Look at a file's header. Takes up to a second: call it in a thread.

    `suffix` tells the format of a file that has no final name yet.
    """
    try:
        if path.stat().st_size == 0:
            return Contents("it is empty")
        is_safetensors = (suffix or path.suffix).casefold() in {".safetensors", ".sft"}
        if kind := _foreign_kind(path, is_safetensors=is_safetensors):
            return Contents(f"it is {kind}")
        if is_safetensors:
            return _of_header(read_safetensors_header(path))
        if code := find_code(path):
            return Contents(
                f"it holds program code ({code}), which is never run; take a .safetensors file of this model instead"
            )
        return Contents(_archive_damage(path))
    except InputRefused as error:
        return Contents(error.message.rstrip("."))
    except OSError as error:
        return Contents(f"it can't be read: {error.strerror or error}")


def lora_damage(contents: Contents) -> str:
    """Why a file can't be used as a LoRA, beside its family; "" if it can."""
    if contents.damage or contents.is_lora:
        return contents.damage
    return "it is a whole model, no LoRA" if contents.is_diffusion_model else "it holds no LoRA"


def embedding_damage(contents: Contents) -> str:
    """Why a file can't be used as a textual inversion; "" if it can."""
    if contents.damage or (contents.has_vectors is not False and not contents.is_lora):
        return contents.damage
    return "it is a LoRA, no textual inversion" if contents.is_lora else "it holds no vectors of a textual inversion"


def checkpoint_damage(contents: Contents, family: Family) -> str:
    """Why a file can't serve as the one checkpoint of a model of this family; "" if nothing is known against it."""
    if contents.is_lora:
        return "it is a LoRA, no checkpoint"
    if not contents.is_diffusion_model:
        return ""
    if not contents.fits(family):
        return f"it is a model of {contents.family}, not of {family.value}: correct the baseline"
    if family is Family.STABLE_CASCADE or family not in _JUDGED or not contents.family:
        return ""
    lacks = [name for name, has in (("VAE", contents.has_vae), ("text encoder", contents.has_text_encoder)) if not has]
    parts = ", or list its parts under `files`" if family in _FLUX else ""
    return f"it holds no {' and no '.join(lacks)}; take a full checkpoint of this model{parts}" if lacks else ""


def _foreign_kind(path: Path, *, is_safetensors: bool) -> str:
    """What the file is instead of a model of its format: a host's answer saved under its name, or another format."""
    with path.open("rb") as file:
        head = file.read(64)
    if b"\0" not in head[:8]:  # text; a safetensors file begins with a small number of eight bytes
        text = head.lstrip().lower()
        if text.startswith((b"<!doctype", b"<html", b"<?xml")):
            return "a web page instead of a model"
        if text.startswith(b"version https://git-lfs"):
            return "a Git LFS pointer instead of a model"
        if text.startswith((b"{", b"invalid username", b"unauthorized", b"access denied", b"not found")):
            return "an error message instead of a model"
    if is_safetensors and head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "a PyTorch file with the suffix of safetensors; rename it to .ckpt"
    if not is_safetensors and head[8:10] in {b'{"', b"{}"} and not any(head[4:8]):
        return "a safetensors file with the suffix of PyTorch; rename it to .safetensors"
    return ""


def _archive_damage(path: Path) -> str:
    """PyTorch's own files are zip archives, whose directory is at the very end."""
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    return "it is cut off: the end of its archive is missing" if is_archive and not zipfile.is_zipfile(path) else ""


def _of_header(header: SafetensorsHeader) -> Contents:
    for name, tensor in header.tensors.items():
        if tensor.dtype not in DTYPE_BITS:
            return Contents(f"its tensor {name[:60]!r} has the type {tensor.dtype[:20]!r}, which nothing reads")
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    if any(_LORA_ENDINGS.search(name) for name in shapes):
        return _of_lora(shapes)
    return _of_model(shapes)


def _of_lora(shapes: Shapes) -> Contents:
    for name, shape in shapes.items():
        for up, down in _PAIRS:
            if not name.endswith(up):
                continue
            other = shapes.get(name.removesuffix(up) + down)
            if other is None:
                return Contents(f"its tensor {name[:80]!r} has no counterpart", is_lora=True)
            if len(shape) < 2 or not other or shape[1] != other[0]:  # noqa: PLR2004 - rows and columns
                return Contents(f"the ranks of {name[:80]!r} and its counterpart differ", is_lora=True)
        if name.endswith(".alpha") and _count(shape) != 1:
            return Contents(f"its {name[:80]!r} is no single number", is_lora=True)
    family, families = _lora_family(shapes)
    return Contents("", family, families, is_lora=True)


def _lora_family(shapes: Shapes) -> tuple[str, frozenset[Family]]:
    joined = [name.replace(".", "_") for name in shapes]
    for mark, family, families in _LORA_MARKS:
        if any(mark in name for name in joined):
            return family, families
    found = {_TEXT_WIDTHS[width] for width in _text_widths(shapes) if width in _TEXT_WIDTHS}
    # The first text encoder is CLIP-L in Flux too, and the second one T5; CLIP-G is SDXL's alone.
    if not found and any(name.startswith("lora_te2_text_model_") for name in joined):
        found = {_TEXT_WIDTHS[2048]}
    return found.pop() if len(found) == 1 else ("", frozenset())


def _text_widths(shapes: Shapes) -> Iterator[int]:
    """Columns of the projections that read the text: in a LoRA's down-projection, or in the weights themselves."""
    for name, shape in shapes.items():
        folded = name.replace(".", "_")
        reads = re.search(r"attn2_(?:processor_)?to_[kv]", folded)
        if reads and shape and folded.endswith(("down_weight", "lora_A_weight", "hada_w1_b", "to_k_weight", "diff")):
            yield shape[1] if len(shape) > 1 else 0


def _of_model(shapes: Shapes) -> Contents:
    prefix = _UNET if any(name.startswith(_UNET) for name in shapes) else ""
    family, families = _model_family(shapes, prefix)
    return Contents(
        family=family,
        families=families,
        is_diffusion_model=bool(prefix or family),
        has_vae=_starts(shapes, _VAE),
        has_text_encoder=_starts(shapes, _TEXT_ENCODERS),
        has_vectors=any(len(shape) in (1, 2) and shape[-1] in _VECTOR_WIDTHS for shape in shapes.values()),
    )


def _model_family(shapes: Shapes, prefix: str) -> tuple[str, frozenset[Family]]:
    def has(name: str) -> bool:
        return prefix + name in shapes

    if has("joint_blocks.0.context_block.attn.qkv.weight"):
        return "Stable Diffusion 3", frozenset()
    if has("clf.1.weight") and (has("clip_txt_mapper.weight") or has("clip_mapper.weight")):
        return "Stable Cascade", frozenset({Family.STABLE_CASCADE})
    if has("double_blocks.0.img_attn.norm.key_norm.scale"):
        if has("distilled_guidance_layer.0.norms.0.scale") or has("distilled_guidance_layer.norms.0.scale"):
            return "Chroma", frozenset()
        return "Flux", _FLUX
    if has("txt_norm.weight") and has("transformer_blocks.0.attn.add_k_proj.weight"):
        return "Qwen-Image", frozenset({Family.QWEN_IMAGE})
    if has("head.modulation"):
        return "Wan", frozenset()
    if has("input_blocks.0.0.weight"):
        widths = {width for width in _text_widths(_below(shapes, prefix)) if width}
        if len(widths) == 1:
            return _TEXT_WIDTHS.get(widths.pop(), ("", frozenset()))
    return "", frozenset()


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name.startswith(f"{prefix}input_blocks.")}


def _starts(names: Iterable[str], prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefixes) for name in names)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
