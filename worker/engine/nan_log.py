"""NaN on engines without the node pack, whose savers make black pixels of it without a word to the worker.

NumPy warns in the engine's log when it casts what is no number. That, and pictures of a single colour, tell it from a
picture that is meant to be black.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from worker.errors import ImageNotFinite
from worker.file_facts import end_of, stamp_of
from worker.images import RawImage, all_flat

#: What NumPy (since 1.24) says of a cast to whole numbers.
WARNING: Final = "invalid value encountered in cast"
#: For the engine's environment: Python tells a warning once for each line of a program otherwise.
NAN_WARNINGS: Final[Mapping[str, str]] = {"PYTHONWARNINGS": f"always:{WARNING}:RuntimeWarning"}
#: Of the log's end, which is where a job that has just ended wrote to.
MOST_BYTES: Final = 256 * 1024


class NanLog:
    """What an engine's log says from the moment of its making on."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        stamp = stamp_of(log_file)
        self._from = stamp[0] if stamp else 0

    async def check(self, images: Sequence[RawImage]) -> None:
        """Raise ImageNotFinite when these pictures are of one colour because they were NaN."""
        if await asyncio.to_thread(lambda: all_flat(images) and self._warned()):
            raise ImageNotFinite(
                "The engine computed no picture but NaN: its log says so, and the picture is of a single colour.",
                remedy="If it returns with every model: the card, its driver or a speed flag; with one: its VAE.",
            )

    def _warned(self) -> bool:
        try:
            # A log that was set aside meanwhile begins anew.
            return WARNING.encode() in end_of(self._log_file, MOST_BYTES, start=self._from)
        except OSError:
            return False
