"""Pictures of one colour: sometimes asked for, but again and again a sign of a broken model, VAE or card."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from loguru import logger

from worker.bounded_dict import BoundedDict
from worker.jobs.job import JobEvent, Stage

#: Jobs in a row with nothing but flat pictures, after which the owner is told; then after as many more again.
MOST_IN_A_ROW = 3
#: Models whose pictures are counted at most.
MOST_MODELS = 512
REMEDY = "Render one yourself: if it is flat too, the model's file or VAE is broken, or the card computes wrongly."


@dataclass
class FlatPictures:
    """Counts, by model, jobs in a row whose pictures are all of one colour, and tells the owner of many.

    Subscribe `note` to the job events.
    """

    _rows: BoundedDict[str, int] = field(default_factory=lambda: BoundedDict(MOST_MODELS), init=False)

    @property
    def many(self) -> Mapping[str, int]:
        """Models whose last jobs gave nothing else, and how many jobs."""
        return {model: row for model, row in self._rows.items() if row >= MOST_IN_A_ROW}

    def note(self, event: JobEvent) -> None:
        """A job was rendered."""
        if event.stage is not Stage.DELIVERING:
            return
        model = event.job.pop.model
        if not event.job.flat:
            self._rows.pop(model, None)
            return
        self._rows[model] = row = self._rows.get(model, 0) + 1
        if row % MOST_IN_A_ROW == 0:
            logger.bind(action="flat_pictures", model=model, jobs=row).warning(
                "The last {} jobs of {} gave pictures of a single colour. {}", row, model, REMEDY
            )
