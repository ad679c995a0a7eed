"""The panel delivered in place of a censored image: the same size, with the reason."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from worker.images import RawImage
from worker.safety.verdict import Censorship

GROUND, BORDER, INK = (32, 34, 38), (96, 100, 108), (214, 217, 222)
#: Smaller text can't be read.
SMALLEST_FONT_PX = 7
#: Panels cached, since the same few are drawn again and again. One of the Horde's largest size has 28 MB.
KEPT_PANELS = 4


@lru_cache(KEPT_PANELS)
def draw_replacement(width: int, height: int, reason: Censorship) -> RawImage:
    """A panel of exactly this size; without text where it would not fit."""
    panel = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(panel)
    inset = min(width, height) // 32
    pen.rectangle((inset, inset, width - 1 - inset, height - 1 - inset), outline=BORDER, width=max(1, inset // 4))
    size = min(width, height) // 14
    if size >= SMALLEST_FONT_PX:
        font = ImageFont.load_default(size)
        text = "\n".join(_lines(reason.value, pen, font, width - 6 * inset))
        pen.multiline_text((width / 2, height / 2), text, INK, font, anchor="mm", align="center", spacing=size // 3)
    return RawImage(width, height, "RGB", panel.tobytes())


def _lines(
    text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, limit: int
) -> list[str]:
    """The text in lines that are no longer than `limit` pixels, as far as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font) > limit:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
