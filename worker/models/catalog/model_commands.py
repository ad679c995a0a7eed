"""From what the owner wrote in `models_to_load` and `models_to_skip` to the models to load. Pure.

Entries are model names or commands; a name that is written exactly is always a name. Commands choose among the
models that can be offered: of a family known here, not skipped, and not large unless large ones are wanted, so that
`TOP 5` gives five. Order is kept: entry by entry, within a command by rank or as the reference lists them.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from worker.models.catalog.records import ModelRecord, fold_baseline
from worker.workflows.types import Family

#: Families that only load by name, unless `load_large_models` is on: each file has 12 GB and more.
LARGE_FAMILIES: Final = frozenset(
    {
        Family.STABLE_CASCADE, Family.FLUX_1, Family.FLUX_SCHNELL, Family.FLUX_DEV,
        Family.QWEN_IMAGE, Family.Z_IMAGE_TURBO,
    }
)  # fmt: skip

#: Groups of families as owners call them; every family's own name and every baseline of the reference work too.
FAMILY_GROUPS: Final[Mapping[str, frozenset[Family]]] = MappingProxyType(
    {
        "sd1": frozenset({Family.STABLE_DIFFUSION_1}),
        "sd15": frozenset({Family.STABLE_DIFFUSION_1}),
        "sd1.5": frozenset({Family.STABLE_DIFFUSION_1}),
        "sd2": frozenset({Family.STABLE_DIFFUSION_2_512, Family.STABLE_DIFFUSION_2_768}),
        "sd21": frozenset({Family.STABLE_DIFFUSION_2_512, Family.STABLE_DIFFUSION_2_768}),
        "sd2.1": frozenset({Family.STABLE_DIFFUSION_2_512, Family.STABLE_DIFFUSION_2_768}),
        "sdxl": frozenset({Family.STABLE_DIFFUSION_XL}),
        "cascade": frozenset({Family.STABLE_CASCADE}),
        "flux": frozenset({Family.FLUX_1, Family.FLUX_SCHNELL, Family.FLUX_DEV}),
        "qwen": frozenset({Family.QWEN_IMAGE}),
        "z_image": frozenset({Family.Z_IMAGE_TURBO}),
        "zimage": frozenset({Family.Z_IMAGE_TURBO}),
    }
)
#: Groups by a flag of the record.
FLAG_GROUPS: Final[Mapping[str, Callable[[ModelRecord], bool]]] = MappingProxyType(
    {
        "sfw": lambda record: not record.nsfw,
        "nsfw": lambda record: record.nsfw,
        "inpainting": lambda record: record.inpainting,
    }
)
#: difflib's ratio from which a name counts as meant.
NEAR: Final = 0.6

_RANKED = re.compile(r"(top|bottom)\s*(\d{1,6})\b", re.IGNORECASE)
_ALL = re.compile(r"all\b\s*(.*?)\s*(?:\bmodels?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Resolution:
    """The models to load, in order; the reason for each; and what the owner should know about the rest."""

    load: tuple[str, ...]
    why: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Choice:
    """What one entry stands for: candidates in order with reasons, and how many of them at most."""

    candidates: Sequence[tuple[str, str]]
    limit: int | None = None
    is_command: bool = True


@dataclass(frozen=True)
class _Known:
    models: Mapping[str, ModelRecord]
    month: Mapping[str, int] | None


def needs_statistics(*entries: Iterable[str]) -> bool:
    """Whether any entry is a TOP or BOTTOM, so that the month's statistics must be fetched."""
    return any(_RANKED.match(" ".join(text.split())) for texts in entries for text in texts)


def resolve(
    wanted: Sequence[str],
    skipped: Sequence[str],
    models: Mapping[str, ModelRecord],
    *,
    month: Mapping[str, int] | None = None,
    large: bool = False,
) -> Resolution:
    """Choose the models to load from `models` (the reference and the owner's own).

    `month` maps names to images made; None when unknown. `large` lets commands choose large models too. The
    owner's own models (`custom`) are always loaded unless skipped by name.
    """
    known = _Known(models, month)
    warnings: list[str] = []
    out = {
        name
        for text in skipped
        for choice in [_read_entry(text, known, "models_to_skip", warnings)]
        for name, _ in choice.candidates[: choice.limit]
    }
    why: dict[str, str] = {}
    for text in wanted:
        choice = _read_entry(text, known, "models_to_load", warnings)
        allowed = [
            (name, reason)
            for name, reason in choice.candidates
            if name not in out and not (choice.is_command and not large and models[name].family in LARGE_FAMILIES)
        ][: choice.limit]
        if choice.candidates and not allowed:
            warnings.append(_explain_nothing(text, choice, out))
        for name, reason in allowed:
            why.setdefault(name, reason)
    for name, record in models.items():
        if record.custom and record.family is not None and name not in out:
            why.setdefault(name, "one of your custom_models")
    return Resolution(tuple(why), MappingProxyType(why), tuple(warnings))


def _read_entry(text: str, known: _Known, key: str, warnings: list[str]) -> _Choice:
    plain = " ".join(text.split())
    if text in known.models or plain in known.models:
        return _read_name(text if text in known.models else plain, known, key, warnings)
    if match := _RANKED.match(plain):
        return _read_ranked(plain, match[1].casefold(), int(match[2]), known, warnings)
    if (match := _ALL.fullmatch(plain)) and (choice := _read_all(match[1], known)):
        if not choice.candidates:
            warnings.append(f"{key}: {plain!r} finds no model.")
        return choice
    return _read_name(plain, known, key, warnings)


def _read_name(name: str, known: _Known, key: str, warnings: list[str]) -> _Choice:
    is_load = key == "models_to_load"
    if name not in known.models:
        folded = [other for other in known.models if other.casefold() == name.casefold()]
        if len(folded) != 1:
            near = _near(name, known.models)
            if near or is_load:
                hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
                warnings.append(f"{key}: no model is called {name!r}.{hint}")
            return _Choice(())
        warnings.append(f"{key}: {name!r} is read as {folded[0]!r}.")
        name = folded[0]
    if is_load and known.models[name].family is None:
        baseline = known.models[name].baseline
        warnings.append(f"{key}: {name!r} is of the baseline {baseline!r}, which this worker can't render.")
        return _Choice(())
    return _Choice(((name, f"named in {key}"),), is_command=False)


def _read_ranked(text: str, kind: str, count: int, known: _Known, warnings: list[str]) -> _Choice:
    if known.month is None:
        warnings.append(f"{text!r} chooses nothing: the Horde's statistics of the month are not available.")
        return _Choice(())
    sign = -1 if kind == "top" else 1
    ranked = sorted(_offered(known.models, known.month), key=lambda name: (sign * (known.month or {})[name], name))
    return _Choice(
        tuple(
            (name, f"{kind.upper()} {count}: rank {rank} of the month, {known.month[name]} images")
            for rank, name in enumerate(ranked, 1)
        ),
        limit=count,
    )


def _read_all(group: str, known: _Known) -> _Choice | None:
    folded = fold_baseline(group)
    joined = folded.replace("_", "")
    families = FAMILY_GROUPS.get(folded) or FAMILY_GROUPS.get(joined)
    accepts: Callable[[ModelRecord], bool]
    if not folded:
        accepts = lambda _: True  # noqa: E731
    elif families:
        accepts = lambda record: record.family in families  # noqa: E731
    elif folded in FLAG_GROUPS:
        accepts = FLAG_GROUPS[folded]
    elif folded in {family.value for family in Family} | {fold_baseline(r.baseline) for r in known.models.values()}:
        accepts = lambda record: folded in {fold_baseline(record.baseline), record.family and record.family.value}  # noqa: E731
    else:
        return None
    reason = f"ALL {group.upper()}".strip()
    offered = _offered(known.models, known.models)
    return _Choice(tuple((name, reason) for name in offered if accepts(known.models[name])))


def _offered(models: Mapping[str, ModelRecord], names: Iterable[str]) -> list[str]:
    return [name for name in names if name in models and models[name].family is not None]


def _near(name: str, names: Iterable[str]) -> list[str]:
    by_folded = {other.casefold(): other for other in names}
    return [by_folded[folded] for folded in difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=NEAR)]


def _explain_nothing(text: str, choice: _Choice, out: set[str]) -> str:
    if choice.limit == 0:
        return f"models_to_load: {text!r} asks for no model."
    if all(name in out for name, _ in choice.candidates):
        return f"models_to_load: everything {text!r} stands for is in models_to_skip."
    return f"models_to_load: {text!r} stands for large models only; set load_large_models, or name them one by one."
