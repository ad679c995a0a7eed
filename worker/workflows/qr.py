"""The workflow qr_code: what its extra texts mean, and its figures.

A picture is begun twice, once guided by the code's data and once by its finder patterns (the three corners). The two
are composed early, and finished together.
"""

from collections.abc import Mapping

from worker.workflows import coerce
from worker.workflows.prompt_syntax import harmless
from worker.workflows.request import QrCode

DEFAULT_TEXT = "https://haidra.net"
#: Module shapes, as the node pack knows them too.
DRAWERS = ("square", "gapped square", "circle", "rounded", "vertical bars", "horizontal bars")
#: Replaces a negative offset (pixels) or border (modules).
INSTEAD_OF_NEGATIVE = 10
MAX_OFFSET_PX, DEFAULT_BORDER, MAX_BORDER = 8192, 1, 64

#: Of 25 steps, the one at which the halves are composed, and the one at which the half with the finder patterns
#: begins. The workflow that the Horde's requesters know has these figures.
OF_STEPS, SETTLED_AT, PATTERNS_FROM = 25, 11, 1
#: Strength of the ControlNet over the finder patterns, and over the whole code at the end, as a multiple of
#: control_strength; and the largest that ComfyUI takes.
PATTERNS_FACTOR, WHOLE_FACTOR, MAX_STRENGTH = 6.0, 1.5, 10.0


def read_qr(texts: Mapping[str, str], prompt: str) -> QrCode:
    """The code that the extra texts describe, by their reference; `prompt` is the job's."""
    text = texts.get("qr_code") or texts.get("qr_text") or DEFAULT_TEXT
    protocol = texts.get("protocol", "").strip().lower()
    if protocol in {"http", "https"} and "://" not in text:
        text = f"{protocol}://{text}"
    drawer = texts.get("module_drawer", "").strip().lower()
    return QrCode(
        text=text,
        x=_distance(texts.get("x_offset"), 0, MAX_OFFSET_PX),
        y=_distance(texts.get("y_offset"), 0, MAX_OFFSET_PX),
        border=_distance(texts.get("qr_border"), DEFAULT_BORDER, MAX_BORDER),
        drawer=drawer if drawer in DRAWERS else DRAWERS[0],
        prompt=harmless(texts.get("function_layer_prompt") or prompt),
    )


def _distance(value: str | None, default: int, most: int) -> int:
    number = coerce.whole(value, default, -1, most)
    return INSTEAD_OF_NEGATIVE if number < 0 else number


def settled_step(steps: int) -> int:
    """The step at which the two halves are composed; at least one is left after it."""
    return min(max(1, round(steps * SETTLED_AT / OF_STEPS)), max(1, steps - 1))


def patterns_step(steps: int) -> int:
    """The step at which the half with the finder patterns begins, before the two are composed."""
    return min(round(steps * PATTERNS_FROM / OF_STEPS), settled_step(steps) - 1)


def patterns_strength(strength: float) -> float:
    return min(strength * PATTERNS_FACTOR, MAX_STRENGTH)


def whole_strength(strength: float) -> float:
    return min(strength * WHOLE_FACTOR, MAX_STRENGTH)
