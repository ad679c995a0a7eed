"""What a model file holds, by the names and shapes in its header: whether it can be loaded, and for which family.

Only what is certain is judged: a file with names that are not known here is taken as what its owner says it is.
"""

import math
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from worker.errors import InputRefused
from worker.models.disk.pickles import find_code
from worker.untrusted.safetensors_header import DTYPE_BITS, SafetensorsHeader, read_safetensors_header
from worker.workflows.families import OTHER_MODELS, TRAITS, Marks, is_for, title_of
from worker.workflows.types import Family

#: Endings of the tensors that ComfyUI 0.3.75 takes from a LoRA file (LoRA, LoHa, LoKr, OFT, GLoRA, full differences).
_LORA_ENDINGS: Final = re.compile(
    r"(?:[._]lora[12]?[._](?:up|down|A|B)(?:\.default)?(?:\.weight)?|\.lora_linear_layer\.(?:up|down)\.weight|"
    r"\.hada_w[12]_[ab]|\.lokr_w[12](?:_[ab])?|\.oft_blocks|\.oft_diag|\.[ab][12]\.weight|\.diff(?:_b)?|\.set_weight|"
    r"\.w_norm|\.b_norm)$"
)
#: Types of safetensors in which no trainer writes what is added to weights.
_WHOLE_NUMBERS: Final = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
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
#: Values of the largest weight that two factors of a LoRA may make. ComfyUI multiplies them before it looks for whom.
MOST_CHANGED: Final = 1 << 30
_UNET: Final = "model.diffusion_model."
#: First bytes of what people take for a model file.
_SIGNATURES: Final = (
    (b"GGUF", "a GGUF file, which ComfyUI does not load by itself; take a .safetensors file of this model instead"),
    (b"7z\xbc\xaf\x27\x1c", "an archive instead of a model; unpack it"),
    (b"Rar!\x1a\x07", "an archive instead of a model; unpack it"),
    (b"\x1f\x8b\x08", "an archive instead of a model; unpack it"),
    (b"\x89PNG\r\n", "a picture instead of a model"), (b"\xff\xd8\xff", "a picture instead of a model"),
    (b"RIFF", "a picture or a film instead of a model"), (b"%PDF-", "a document instead of a model"),
)  # fmt: skip

Shapes = Mapping[str, tuple[int, ...]]


class _Kind(NamedTuple):
    """A kind of models: its name as a person knows it, what tells its files, and which of our families it is."""

    title: str
    marks: Marks
    families: frozenset[Family]


def _kinds() -> tuple[_Kind, ...]:
    """All kinds whose files can be told. Families with the same marks are one kind."""
    alike: dict[str, list[Family]] = {}
    for family, traits in TRAITS.items():
        if traits.marks != Marks():
            alike.setdefault(traits.marks.model_dump_json(), []).append(family)
    families = (_Kind(title_of(same[0]), TRAITS[same[0]].marks, frozenset(same)) for same in alike.values())
    return (*families, *(_Kind(title, marks, frozenset()) for title, marks in OTHER_MODELS.items()))


def _told(kind: _Kind | None) -> tuple[str, frozenset[Family]]:
    return (kind.title, kind.families) if kind else ("", frozenset())


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
        """Whether it may be for this family, unless known to be for others. Families without marks are not judged."""
        return not self.family or is_for(self.families, family) or TRAITS[family].marks == Marks()


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
    traits = TRAITS[family]
    if ["checkpoint"] not in traits.files or traits.marks == Marks() or not contents.family:
        return ""
    lacks = [name for name, has in (("VAE", contents.has_vae), ("text encoder", contents.has_text_encoder)) if not has]
    parts = ", or list its parts under `files`" if len(traits.files) > 1 else ""
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
    # The length that begins a safetensors file leaves its upper half empty.
    if not is_safetensors or any(head[4:8]):
        for signature, kind in _SIGNATURES:
            if head.startswith(signature):
                return kind
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
    changes = [name for name in shapes if _LORA_ENDINGS.search(name)]
    if whole := next((name for name in changes if header.tensors[name].dtype in _WHOLE_NUMBERS), ""):
        return Contents(f"its tensor {whole[:80]!r} holds whole numbers, which change nothing", is_lora=True)
    if changes:
        return _of_lora(shapes)
    return _of_model(shapes)


def _of_lora(shapes: Shapes) -> Contents:
    for name, shape in shapes.items():
        # ComfyUI divides by the rank when the LoRA is first used, in a node that reads no file.
        if not math.prod(shape):
            return Contents(f"its tensor {name[:80]!r} has no values", is_lora=True)
        for up, down in _PAIRS:
            if not name.endswith(up):
                continue
            other = shapes.get(name.removesuffix(up) + down)
            if other is None:
                return Contents(f"its tensor {name[:80]!r} has no counterpart", is_lora=True)
            if len(shape) < 2 or not other or shape[1] != other[0]:  # noqa: PLR2004 - rows and columns
                return Contents(f"the ranks of {name[:80]!r} and its counterpart differ", is_lora=True)
            if shape[0] * math.prod(other) // other[0] > MOST_CHANGED:
                return Contents(f"{name[:80]!r} and its counterpart make a weight larger than any", is_lora=True)
        if name.endswith(".alpha") and math.prod(shape) != 1:
            return Contents(f"its {name[:80]!r} is no single number", is_lora=True)
    family, families = _lora_family(shapes)
    return Contents("", family, families, is_lora=True)


def _lora_family(shapes: Shapes) -> tuple[str, frozenset[Family]]:
    joined = [name.replace(".", "_") for name in shapes]
    marked = (kind for kind in _kinds() if any(mark in name for mark in kind.marks.lora for name in joined))
    return _told(next(marked, None) or _by_width(_text_widths(shapes)))


def _by_width(widths: Iterable[int]) -> "_Kind | None":
    """The one kind that reads texts of these widths; None for none, or several."""
    found = {kind.title: kind for width in set(widths) for kind in _kinds() if kind.marks.text_width == width}
    return next(iter(found.values())) if len(found) == 1 else None


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
        has_vectors=any(
            len(shape) in (1, 2) and shape[-1] in _VECTOR_WIDTHS and shape[0] > 0 for shape in shapes.values()
        ),
    )


def _model_family(shapes: Shapes, prefix: str) -> tuple[str, frozenset[Family]]:
    def has(name: str) -> bool:
        return prefix + name in shapes

    for kind in _kinds():
        marks = kind.marks
        if any(all(map(has, names)) for names in marks.model) and not any(map(has, marks.model_lacks)):
            return _told(kind)
    if has("input_blocks.0.0.weight"):
        blocks = {name: shape for name, shape in shapes.items() if name.startswith(f"{prefix}input_blocks.")}
        widths = set(filter(None, _text_widths(blocks)))
        if len(widths) == 1:
            return _told(_by_width(widths))
    return "", frozenset()


def _starts(names: Iterable[str], prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefixes) for name in names)
