"""From fields of a request to inputs of nodes: a closed, typed vocabulary without expressions or placeholders.

A source is a field of RenderRequest (`steps`, `model.files.checkpoint`), of the element a fragment stands for
(`item.file`), or a field seen through a named transform.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from worker.workflows import qr
from worker.workflows.graph import Input
from worker.workflows.request import RenderRequest

#: In a fragment with `each`: the name of the element that an instance stands for.
ITEM = "item"
#: Types that an input of a node can hold, beside a link.
PLAIN = (bool, int, float, str)
#: The purposes a model's files can have.
PURPOSES = ("checkpoint", "unet", "text_encoder", "text_encoder_2", "vae", "stage_b", "stage_c")
#: Fields of every request: a template binds each, or lists it in `ignores`.
PICTURE_FIELDS = (
    "prompt", "negative_prompt", "seed", "steps", "cfg", "sampler", "scheduler", "denoise", "width", "height", "batch",
    "clip_skip",
)  # fmt: skip
#: Field → the one of PICTURE_FIELDS that it counts for: the first pass of a hires fix has a size of its own.
STAND_INS = {"first_width": "width", "first_height": "height"}


@dataclass(frozen=True)
class Transform:
    """A pure function between two plain types."""

    takes: type
    gives: type
    apply: Callable[[Any], Any]


def share_of(part: float) -> Transform:
    """This part of a whole number, at least 1: the steps of one of several samplers."""
    return Transform(int, int, lambda whole: max(1, round(whole * part)))


def one_of(if_true: Any, if_false: Any) -> Transform:
    """One of two values of the same type."""
    return Transform(bool, type(if_true), lambda holds: if_true if holds else if_false)


#: The closed set of functions that a manifest may put between a field and an input.
TRANSFORMS = {
    "negate": Transform(int, int, operator.neg),
    "qr_settled_step": Transform(int, int, qr.settled_step),
    "qr_patterns_step": Transform(int, int, qr.patterns_step),
    "qr_patterns_strength": Transform(float, float, qr.patterns_strength),
    "qr_whole_strength": Transform(float, float, qr.whole_strength),
}


@dataclass(frozen=True)
class Binding:
    """One input of one node, and how to read its value from a request."""

    place: Input
    #: the type of the values
    kind: type
    read: Callable[[RenderRequest, Any], Any]
    #: the field it comes from
    field: str
    #: not every request has the field; `read` returns None then
    optional: bool


def bound(place: Input, path: str, *, via: str | Transform | None = None, each: str | None = None) -> Binding:
    """A field, perhaps through a transform, named or itself. `each`: the tuple whose elements `item.…` means.

    Raises ValueError with a sentence for whoever wrote the manifest.
    """
    kind = field_type(path, each=each)
    optional = any(hint != _without_none(hint) for hint in _hints(path, each))
    read = _reader(path)
    if via is not None:
        transform = via if isinstance(via, Transform) else TRANSFORMS.get(via)
        if transform is None:
            raise ValueError(f"there is no transform {via!r}; known are {', '.join(sorted(TRANSFORMS))}")
        if transform.takes is not kind:
            what = via if isinstance(via, str) else "it"
            raise ValueError(f"{what} takes {transform.takes.__name__}, but {path} is {kind.__name__}")
        plain, apply = read, transform.apply
        return Binding(place, transform.gives, lambda request, item: _of(apply, plain(request, item)), path, optional)
    return Binding(place, kind, read, path, optional)


def _of(apply: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else apply(value)


def field_type(path: str, *, each: str | None = None) -> type:
    """The plain type of a field. Raises ValueError when there is none, or it is not plain."""
    kind = _without_none(_hints(path, each)[-1])
    if kind not in PLAIN:
        raise ValueError(f"{path} is a whole {getattr(kind, '__name__', kind)}; name one of its fields")
    return kind  # type: ignore[no-any-return]


def _hints(path: str, each: str | None) -> list[Any]:
    """The declared type of every step of a path, after that of what it begins with."""
    steps = path.split(".")
    hints: list[Any] = [RenderRequest]
    if steps[0] == ITEM:
        if each is None:
            raise ValueError(f"{path}: only a fragment with `each` has an item")
        hints, steps = [item_type(each)], steps[1:]
    for step in steps:
        hints.append(_step(_without_none(hints[-1]), step, path))
    return hints


def item_type(each: str) -> Any:
    """The type of the elements of a tuple field. Raises ValueError when it is no tuple of a request."""
    hint = _types_in(RenderRequest).get(each)
    if get_origin(hint) is not tuple:
        raise ValueError(f"{each} is no list of a request")
    return get_args(hint)[0]


def _step(kind: Any, name: str, path: str) -> Any:
    if get_origin(kind) is Mapping:
        choices: Mapping[str, Any] = dict.fromkeys(PURPOSES, get_args(kind)[1])
    elif isinstance(kind, type) and is_dataclass(kind):
        choices = _types_in(kind)
    else:
        choices = {}
    if name not in choices:
        raise ValueError(f"there is no field {path}" + (f"; after it come {', '.join(choices)}" if choices else ""))
    return choices[name]


@cache
def _types_in(kind: Any) -> Mapping[str, Any]:
    """The fields of a dataclass and their declared types. Evaluated once: a library has thousands of bindings."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in {Union, UnionType}:
        return next(kind for kind in get_args(hint) if kind is not NoneType)
    return hint


def _reader(path: str) -> Callable[[RenderRequest, Any], Any]:
    steps = path.split(".")
    from_item = steps[0] == ITEM
    steps = steps[1:] if from_item else steps

    def read(request: RenderRequest, item: Any) -> Any:
        value: Any = item if from_item else request
        for step in steps:
            value = value.get(step) if isinstance(value, Mapping) else getattr(value, step, None)
        return value

    return read
