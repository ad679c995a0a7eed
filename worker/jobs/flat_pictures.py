"""Pictures of one colour: sometimes asked for, but again and again a sign of a broken model, VAE or card."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loguru import logger

from worker.bounded_dict import BoundedDict
from worker.images import RawImage

#: Jobs in a row with nothing but flat pictures, after which the owner is told; then after as many more again.
MOST_IN_A_ROW = 3
#: Models whose pictures are counted at most.
MOST_MODELS = 512
#: Pixels that are compared first: nearly every picture ends there.
FIRST_PIXELS = 1024


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


@dataclass
class FlatPictures:
    """Counts, by model, jobs in a row whose pictures are all of one colour, and tells the owner of many."""

    _rows: BoundedDict[str, int] = field(default_factory=lambda: BoundedDict(MOST_MODELS), init=False)

    def note(self, model: str, *, flat: bool) -> None:
        """A job of this model was rendered."""
        if not flat:
            self._rows.pop(model, None)
            return
        self._rows[model] = row = self._rows.get(model, 0) + 1
        if row % MOST_IN_A_ROW == 0:
            logger.bind(action="flat_pictures", model=model, jobs=row).warning(
                "The last {} jobs of {} gave pictures of a single colour. Render one yourself: if it is flat too, the "
                "model's file or VAE is broken, or the card computes wrongly.",
                row, model,
            )  # fmt: skip
