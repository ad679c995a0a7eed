"""The models that the entries of `models_to_load` and `models_to_skip` choose. Pure.

Entries are model names or commands; an exact name is always a name. Commands choose among the models that can be
offered (of a known family, not skipped, not large unless large ones are wanted), so that `TOP 5` gives five. The order
is that of the entries; within a command that of the ranks, or of the reference. Families that need a newer
engine than the pinned one are chosen by name, or by a command that names them (`ALL KREA2`).
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from worker.models.catalog.records import ModelRecord
from worker.workflows.families import TRAITS, EngineNeeds, groups, of_group
from worker.workflows.types import Family, fold_baseline

#: Names of groups after ALL that stand for a flag of the record.
FLAG_GROUPS: Final[Mapping[str, Callable[[ModelRecord], bool]]] = {
    "sfw": lambda record: not record.nsfw,
    "nsfw": lambda record: record.nsfw,
    "inpainting": lambda record: record.inpainting,
}
#: difflib's ratio from which a name is suggested.
NEAR: Final = 0.6
#: The same for a command where no list of models tells whether it is a name.
COMMAND_NEAR: Final = 0.8
#: Characters of an entry that are compared.
MAX_COMPARED: Final = 200

_RANKED = re.compile(r"(top|bottom)\s*(\d{1,6})\b", re.IGNORECASE)
_ALL = re.compile(r"all\b\s*(.*?)\s*(?:\bmodels?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Resolution:
    """The models to load, in order; the reason for each; and a sentence for each entry that needs one."""

    load: tuple[str, ...]
    why: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    #: those of `load` that the owner named, his own models among them
    named: frozenset[str] = frozenset()
    #: models that a command may choose, in the order of the reference
    eligible: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    """What one entry stands for: candidates in order with reasons, and how many of them at most."""

    candidates: Sequence[tuple[str, str]]
    limit: int | None = None
    is_command: bool = True


@dataclass(frozen=True)
class _Known:
    models: Mapping[str, ModelRecord]
    month: Mapping[str, int] | None


def needs_statistics(entries: Iterable[str]) -> bool:
    """Whether any entry is a TOP or BOTTOM, which rank by the month's statistics."""
    return any(_RANKED.match(" ".join(text.split())) for text in entries)


def resolve(
    wanted: Sequence[str],
    skipped: Sequence[str],
    models: Mapping[str, ModelRecord],
    *,
    month: Mapping[str, int] | None = None,
    large: bool = False,
) -> Resolution:
    """Choose the models to load from `models` (the reference and the owner's own).

    `month`: model → images of the month, None when unknown. `large` lets commands choose large models too. Custom
    models are always loaded unless skipped.
    """
    known = _Known(models, month)
    warnings: list[str] = []
    out = {
        name
        for text in skipped
        for entry in [_read_entry(text, known, "models_to_skip", warnings)]
        for name, _ in entry.candidates[: entry.limit]
    }
    why: dict[str, str] = {}
    named: set[str] = set()
    for text in wanted:
        entry = _read_entry(text, known, "models_to_load", warnings)
        allowed = [
            (name, reason)
            for name, reason in entry.candidates
            if name not in out and not (entry.is_command and not large and _is_large(models[name]))
        ][: entry.limit]
        if entry.candidates and not allowed:
            warnings.append(_explain_nothing(text, entry, out))
        for name, reason in allowed:
            why.setdefault(name, reason)
        if not entry.is_command:
            named.update(name for name, _ in allowed)
    for name, record in models.items():
        if record.custom and record.family is not None and name not in out:
            why.setdefault(name, "one of your custom_models")
            named.add(name)
    everyday = (name for name in _everyday(models, models) if large or not _is_large(models[name]))
    eligible = (name for name in everyday if name not in out)
    return Resolution(tuple(why), why, tuple(warnings), frozenset(named), tuple(eligible))


def _read_entry(text: str, known: _Known, key: str, warnings: list[str]) -> _Entry:
    plain = " ".join(text.split())
    if text in known.models or plain in known.models:
        return _read_name(text if text in known.models else plain, known, key, warnings)
    if match := _RANKED.match(plain):
        return _read_ranked(plain, match[1].casefold(), int(match[2]), known, warnings)
    if (match := _ALL.fullmatch(plain)) and (entry := _read_all(match[1], known)):
        if not entry.candidates:
            warnings.append(f"{key}: {plain!r} finds no model.")
        return entry
    return _read_name(plain, known, key, warnings)


def _read_name(name: str, known: _Known, key: str, warnings: list[str]) -> _Entry:
    is_load = key == "models_to_load"
    if name not in known.models:
        folded = [other for other in known.models if other.casefold() == name.casefold()]
        if len(folded) != 1:
            near = _suggest(name, known.models)
            if near or is_load:
                hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
                warnings.append(f"{key}: no model is called {name[:MAX_COMPARED]!r}.{hint}")
            return _Entry(())
        warnings.append(f"{key}: {name!r} is read as {folded[0]!r}.")
        name = folded[0]
    if is_load and known.models[name].family is None:
        baseline = known.models[name].baseline
        warnings.append(f"{key}: {name!r} is of the baseline {baseline!r}, which this worker can't render.")
        return _Entry(())
    return _Entry(((name, f"named in {key}"),), is_command=False)


def _read_ranked(text: str, kind: str, count: int, known: _Known, warnings: list[str]) -> _Entry:
    if known.month is None:
        warnings.append(f"{text!r} chooses nothing: the Horde's statistics of the month are not available.")
        return _Entry(())
    sign = -1 if kind == "top" else 1
    ranked = sorted(_everyday(known.models, known.month), key=lambda name: (sign * (known.month or {})[name], name))
    return _Entry(
        tuple(
            (name, f"{kind.upper()} {count}: rank {rank} of the month, {known.month[name]} images")
            for rank, name in enumerate(ranked, 1)
        ),
        limit=count,
    )


def _read_all(group: str, known: _Known) -> _Entry | None:
    folded = fold_baseline(group)
    joined = folded.replace("_", "")
    families = of_group(folded) or of_group(joined)
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
    named = bool(families) or (folded and folded not in FLAG_GROUPS)
    offered = (_offered if named else _everyday)(known.models, known.models)
    return _Entry(tuple((name, reason) for name in offered if accepts(known.models[name])))


def _is_large(record: ModelRecord) -> bool:
    return record.family is not None and TRAITS[record.family].large


def _offered(models: Mapping[str, ModelRecord], names: Iterable[str]) -> list[str]:
    return [name for name in names if name in models and models[name].family is not None]


def _everyday(models: Mapping[str, ModelRecord], names: Iterable[str]) -> list[str]:
    """Those offered by any engine: the pinned one can't run what has needs."""
    return [
        name
        for name in _offered(models, names)
        if (family := models[name].family) is not None and TRAITS[family].needs == EngineNeeds()
    ]


def _suggest(text: str, names: Iterable[str]) -> list[str]:
    """Up to three names and commands that resemble `text`."""
    folded = text.casefold()[:MAX_COMPARED]
    count = re.search(r"\d{1,6}", folded)
    commands = [f"{kind} {count[0] if count else 5}" for kind in ("TOP", "BOTTOM")]
    commands += ["ALL", *(f"ALL {group.upper()}" for group in (*groups(), *FLAG_GROUPS))]
    by_folded = {other.casefold(): other for other in (*commands, *names)}
    return [by_folded[near] for near in difflib.get_close_matches(folded, by_folded, n=3, cutoff=NEAR)]


def misspelt_command(text: str) -> str | None:
    """The command that `text` resembles without being one, as far as can be told without a list of models."""
    plain = " ".join(text.split())
    if _RANKED.match(plain):
        return None
    near = _suggest(plain, ())[:1]
    alike = difflib.SequenceMatcher(None, plain.casefold(), near[0].casefold()).ratio() if near else 0
    return near[0] if COMMAND_NEAR <= alike < 1 else None


def _explain_nothing(text: str, entry: _Entry, out: set[str]) -> str:
    if entry.limit == 0:
        return f"models_to_load: {text!r} asks for no model."
    if all(name in out for name, _ in entry.candidates):
        return f"models_to_load: everything {text!r} stands for is in models_to_skip."
    return f"models_to_load: {text!r} stands for large models only; set load_large_models, or name them one by one."
