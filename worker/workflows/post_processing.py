"""A payload's post-processors: the known ones, in the order in which they run."""

from collections.abc import Mapping, Sequence
from typing import Any

from worker.workflows import coerce
from worker.workflows.auxiliary_files import FACE_FIXERS, STRIP_BACKGROUND, UPSCALERS, AuxiliaryFile
from worker.workflows.request import PostProcessorModel

#: The Horde's list is shorter, and none of its names is as long.
MAX_NAMES, MAX_NAME_CHARACTERS = 32, 100


def asked(payload: Mapping[str, Any]) -> list[str]:
    """The names that a payload lists, known or not, each once and cut to a length that a message can repeat."""
    names = payload.get("post_processing")
    names = names[:MAX_NAMES] if isinstance(names, list | tuple) else ()
    return list(dict.fromkeys(coerce.text(name)[:MAX_NAME_CHARACTERS] for name in names))


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """The known names: faces are fixed at the size they were painted, the background is cut out last."""
    groups = (FACE_FIXERS, UPSCALERS, {STRIP_BACKGROUND})
    return tuple(name for group in groups for name in names if name in group)


def networks(files: Mapping[str, AuxiliaryFile], names: Sequence[str]) -> tuple[PostProcessorModel, ...]:
    """The networks of those names that have one in `files`."""
    return tuple(PostProcessorModel(files[name].name) for name in names if name in files)
