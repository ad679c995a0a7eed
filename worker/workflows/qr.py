"""The QR-code workflow: what its extra texts mean, and its figures. Pure.

A picture is begun twice, once with the code's data as its light and shade, once with its corner patterns; the two are
laid over one another before the composition is settled, and finished together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.workflows import coerce

WORKFLOW = "qr_code"
DEFAULT_TEXT = "https://haidra.net"
#: Names of module shapes in a payload; the node pack knows the same.
DRAWERS = ("square", "gapped square", "circle", "rounded", "vertical bars", "horizontal bars")
#: What stands for an offset or border that is negative, in pixels or modules.
INSTEAD_OF_NEGATIVE = 10
MAX_OFFSET_PX, DEFAULT_BORDER, MAX_BORDER = 8192, 1, 64

#: Of 25 steps the two beginnings take this many; the one with the patterns leaves out the first.
OF_STEPS, SETTLED_AT, PATTERNS_FROM = 25, 11, 1
#: How much stronger than asked the patterns, and the whole code in the end, guide the sampler; and the strongest.
PATTERNS_TIMES, WHOLE_TIMES, STRONGEST = 6.0, 1.5, 10.0


@dataclass(frozen=True)
class QrCode:
    """A code to be drawn. Offsets in pixels, 0 for the middle; border in modules."""

    text: str
    x: int
    y: int
    border: int
    drawer: str
    #: what the corner patterns are to look like
    prompt: str


def read_qr(texts: Mapping[str, str], prompt: str) -> QrCode:
    """From the extra texts by their reference; `prompt` is the job's."""
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
        prompt=texts.get("function_layer_prompt") or prompt,
    )


def _distance(value: str | None, default: int, most: int) -> int:
    number = coerce.whole(value, default, -1, most)
    return INSTEAD_OF_NEGATIVE if number < 0 else number


def settled_step(steps: int) -> int:
    """The step at which the two beginnings are laid over one another; at least one is left to finish."""
    return min(max(1, round(steps * SETTLED_AT / OF_STEPS)), max(1, steps - 1))


def patterns_step(steps: int) -> int:
    """The step with which the patterns begin, before the composition is settled."""
    return min(round(steps * PATTERNS_FROM / OF_STEPS), settled_step(steps) - 1)


def patterns_strength(strength: float) -> float:
    return min(strength * PATTERNS_TIMES, STRONGEST)


def whole_strength(strength: float) -> float:
    return min(strength * WHOLE_TIMES, STRONGEST)
