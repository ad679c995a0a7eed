"""Our own pixels: what the engine hands out, and the WebP that the Horde takes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

#: WebP quality of delivered images; reGen's value, so requesters see no difference.
WEBP_QUALITY = 95
#: libwebp's effort. 6 costs three times the CPU of 4 for about 2 % of the size.
WEBP_METHOD = 4
#: Pixels of the largest image an engine hands out: the Horde's largest, 3072 x 3072, with sides four times as long.
MOST_RENDERED_PIXELS = (4 * 3072) ** 2

#: Pixels that are compared first where a picture may be of one colour: nearly every one ends there.
FIRST_PIXELS = 1024

Mode = Literal["L", "RGB", "RGBA"]


@dataclass(frozen=True)
class RawImage:
    """One picture as the engine hands it out: 8 bits a channel, rows top-down, no padding."""

    width: int
    height: int
    mode: Mode
    pixels: bytes

    def check(self) -> None:
        """Raise ValueError unless the bytes fill width x height exactly."""
        wanted = self.width * self.height * len(self.mode)
        if len(self.pixels) != wanted:
            raise ValueError(f"{len(self.pixels)} bytes for {self.width}x{self.height} {self.mode}, not {wanted}")

    @classmethod
    def from_pillow(cls, picture: Image.Image) -> "RawImage":
        """The pixels of an RGB or RGBA picture."""
        return cls(picture.width, picture.height, "RGBA" if picture.mode == "RGBA" else "RGB", picture.tobytes())

    def to_pillow(self) -> Image.Image:
        """The same picture for Pillow. Raises ValueError when the bytes do not fill width x height."""
        return Image.frombytes(self.mode, (self.width, self.height), self.pixels)


def encode_webp(image: RawImage) -> bytes:
    """Lossy WebP as requesters get it. CPU-bound: call it off the event loop."""
    out = io.BytesIO()
    image.to_pillow().save(out, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
    return out.getvalue()


def is_flat(image: RawImage) -> bool:
    """Whether all pixels are the same."""
    channels = len(image.mode)
    first = image.pixels[:channels]
    beginning = image.pixels[: FIRST_PIXELS * channels]
    if beginning != first * (len(beginning) // channels):
        return False
    return image.pixels == first * (len(image.pixels) // channels)


def all_flat(images: Sequence[RawImage]) -> bool:
    """Whether there are pictures and each is of one colour. Takes milliseconds a megapixel: call it in a thread."""
    return bool(images) and all(map(is_flat, images))
