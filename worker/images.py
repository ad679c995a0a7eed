"""Pixels at the borders: what the engine hands out, what the Horde takes, what requesters send."""

import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageOps

#: WebP quality of delivered images; reGen's value, so requesters see no difference.
WEBP_QUALITY = 95
#: libwebp's effort. 6 costs three times the CPU of 4 for about 2 % of the size.
WEBP_METHOD = 4
#: A requester's picture above this many pixels is refused unopened: the Horde's own limit is 3072 x 3072.
MAX_SOURCE_PIXELS = 64_000_000

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

    def to_pillow(self) -> Image.Image:
        """The same picture for Pillow. Raises ValueError when the bytes do not fill width x height."""
        return Image.frombytes(self.mode, (self.width, self.height), self.pixels)


def encode_webp(image: RawImage) -> bytes:
    """Lossy WebP as requesters get it. CPU-bound: call it off the event loop."""
    out = io.BytesIO()
    image.to_pillow().save(out, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
    return out.getvalue()


def open_picture(data: bytes) -> Image.Image:
    """Any picture Pillow can read, first frame, upright, as RGB or, where it has transparency, RGBA.

    Raises ValueError for anything else, or for one that is too large to be honest.
    """
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_SOURCE_PIXELS:
            raise ValueError(f"a picture of {image.width}x{image.height} is too large")
        upright = ImageOps.exif_transpose(image)
        return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except Exception as error:  # Pillow's many readers raise whatever they stumble over
        raise ValueError(f"not a readable picture: {error}") from error


def decode(data: bytes) -> RawImage:
    """`open_picture`, as raw pixels."""
    image = open_picture(data)
    return RawImage(image.width, image.height, "RGBA" if image.mode == "RGBA" else "RGB", image.tobytes())
