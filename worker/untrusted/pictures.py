"""Pictures of requesters, opened within bounds: few formats, so many pixels, so much memory for all jobs together.

A picture's size is looked at before its pixels are unpacked: a quarter of a megabyte can hold gigabytes of them. Only
readers that work in this process are used, since one that starts another program (PostScript) would run a stranger's
code. Everything here but `MemoryBudget` is CPU work of up to half a second: call it in a thread.
"""

import asyncio
import contextlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from worker.errors import InputRefused

#: What the Horde's storage gives out (WebP, whatever a requester sent), what other storages and clients make of
#: pictures (PNG, JPEG), and the one format whose pixels are fractions (TIFF).
FORMATS: Final = ("WEBP", "PNG", "JPEG", "TIFF")
#: The Horde takes pictures of at most 3072 x 3072 pixels, whatever their shape.
MOST_PIXELS: Final = 3072 * 3072
#: The Horde's storage keeps WebP, whose sides end here.
LONGEST_SIDE: Final = 16_383
#: Bytes that Pillow keeps for each pixel of RGB as of RGBA.
BYTES_PER_PIXEL: Final = 4
#: Texts within a PNG, unpacked: one, and all together. A ComfyUI workflow may have some hundred kilobytes.
PNG_TEXT_BYTES: Final = 1024 * 1024
PNG_TEXTS_BYTES: Final = 4 * 1024 * 1024
#: What the largest value of one grey channel means in modes deeper than 8 bits: the first that is not below it.
_WHITES: Final = {
    "F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0),
    "I;16": (65535.0,), "I;16B": (65535.0,), "I;16L": (65535.0,), "I;16N": (65535.0,),
}  # fmt: skip

Result = TypeVar("Result")

# Pillow reads its bounds from its modules.
PngImagePlugin.MAX_TEXT_CHUNK = PNG_TEXT_BYTES
PngImagePlugin.MAX_TEXT_MEMORY = PNG_TEXTS_BYTES
# `_look_at` decides by the same number, and refuses where Pillow only warns.
Image.MAX_IMAGE_PIXELS = None


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height as the header tells them. Raises InputRefused for what `open_picture` would not open."""
    with _look_at(data, FORMATS, MOST_PIXELS) as image:
        return image.size


def open_picture(data: bytes, *, formats: tuple[str, ...] = FORMATS, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """The first frame, upright, as RGB or, where it has transparency, RGBA; deeper channels scaled to 8 bits.

    Raises InputRefused when it is of no format taken, too large, or damaged.
    """
    with _look_at(data, formats, most_pixels) as image:
        try:
            image.load()
            upright = _to_eight_bits(image)
            with contextlib.suppress(Exception):  # whatever it stumbles over: which side is up is then not known
                ImageOps.exif_transpose(upright, in_place=True)
            mode = "RGBA" if upright.has_transparency_data else "RGB"
            # A copy that is no file any more: the readers keep what they read.
            return upright.convert(mode)
        except Exception as error:  # Pillow's readers raise whatever they stumble over
            raise InputRefused(f"not a readable picture: {error}") from error


def _look_at(data: bytes, formats: tuple[str, ...], most_pixels: int) -> Image.Image:
    """The picture with nothing but its header read. Raises InputRefused."""
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        raise InputRefused(f"not a readable picture: it is no {', '.join(formats)}, or damaged") from error
    except Exception as error:  # as above
        raise InputRefused(f"not a readable picture: {error}") from error
    width, height = image.size
    if width * height > most_pixels or max(width, height) > LONGEST_SIDE:
        image.close()
        raise InputRefused(
            f"a picture of {width}x{height} pixels is larger than {most_pixels} or {LONGEST_SIDE} a side"
        )
    return image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits or of fractions scaled to 8 bits, where Pillow would clip it; any other as it is."""
    whites = _WHITES.get(image.mode)
    if whites is None:
        return image
    deep = (image.convert("I") if image.mode.startswith("I;") else image).convert("F")
    low, high = (float(cast("float", end)) for end in deep.getextrema())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputRefused("pixels that are not numbers")
    white = next((each for each in whites if high <= each), None)
    # Where no usual range fits, the picture's own one is what tells dark from light.
    dark, white = (0.0, white) if white is not None and low >= 0 else (low, high)
    factor = 255.0 / ((white - dark) or 1.0)
    offset = 0.5 - dark * factor
    return deep.point(lambda value: value * factor + offset).convert("L")


class MemoryBudget:
    """Memory that the pictures of all jobs may take together, in bytes; who finds none left waits.

    Small pictures pass large ones that wait. The oldest reservation always gets what it asks for, so that those that
    wait for each other can't stop all. `max_bytes`: of all reservations; `max_job_bytes`: of one.
    """

    def __init__(self, max_bytes: int, max_job_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.max_job_bytes = max_job_bytes or max_bytes
        #: for `Reservation.work`: decoders, masks and encoders take several times what the picture has
        self.working = asyncio.Semaphore(1)
        #: the oldest first
        self.reservations: list[Reservation] = []
        self.freed = asyncio.Event()

    @property
    def used_bytes(self) -> int:
        return sum(each.reserved_bytes for each in self.reservations)

    @contextmanager
    def reserve(self) -> Iterator["Reservation"]:
        """A reservation of nothing yet, given back at the end of the block."""
        reservation = Reservation(self)
        self.reservations.append(reservation)
        try:
            yield reservation
        finally:
            self.reservations.remove(reservation)
            reservation.free(reservation.reserved_bytes)

    def wake(self) -> None:
        """Let those that wait look again."""
        self.freed.set()
        self.freed = asyncio.Event()


class Reservation:
    """One job's part of a budget, which grows and shrinks."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.reserved_bytes = 0

    async def take(self, count: int) -> None:
        """Wait for so many bytes more. Raises InputRefused when they are too many for one job, or it is over."""
        budget = self._budget
        if self.reserved_bytes + count > budget.max_job_bytes:
            raise InputRefused(f"The job's pictures take more than {budget.max_job_bytes} bytes.")
        while (
            self in budget.reservations
            and budget.used_bytes + count > budget.max_bytes
            and budget.reservations[0] is not self
        ):
            await budget.freed.wait()
        if self not in budget.reservations:
            raise InputRefused("The job of these pictures is over.")
        self.reserved_bytes += count

    def free(self, count: int) -> None:
        """Give so many bytes back before the reservation ends."""
        self.reserved_bytes = max(0, self.reserved_bytes - count)
        self._budget.wake()

    async def open(self, data: bytes) -> Image.Image:
        """`open_picture` in a thread, its pixels taken from this reservation. Raises InputRefused."""
        width, height = await asyncio.to_thread(picture_size, data)
        await self.take(width * height * BYTES_PER_PIXEL)
        try:
            return await self.work(open_picture, data)
        except InputRefused:
            self.free(width * height * BYTES_PER_PIXEL)
            raise

    async def work(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call it in a thread, one such call at a time for all jobs: what it takes on the way is in no reservation."""
        async with self._budget.working:
            return await asyncio.to_thread(function, *arguments)
