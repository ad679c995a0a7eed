"""Which picture is tried next: sizes from the family's own upwards, then batches. Pure.

Each answer decides the next question: a size that fails ends the climb, and what can't be done in the Horde's time is
not asked for in a larger size. So a card that can do little is through in a minute.
"""

from collections.abc import Iterator, Sequence

from worker.benchmark.measurements import Measured, Shot, Subject
from worker.scheduling.estimates.ttl import SHARE, ttl_s
from worker.workflows.families import TRAITS

#: Sides of squares that `max_power` values stand for: 8, 18, 32, 50, 64, 98, 128.
SIDES = (512, 768, 1024, 1280, 1448, 1792, 2048)
#: Of tiny models, which stand in for others.
STAND_IN_SIDE = 256
BATCHES = (2, 4, 8, 16)
#: Smaller than this share of the next size's time is not worth trying in what is left.
_GROWTH = 1.3


def native_side(subject: Subject) -> int:
    """The side of the pictures that the family is made for, on the ladder of sizes."""
    native = TRAITS[subject.family].native_px
    return max((side for side in SIDES if side <= native), default=SIDES[0])


def limit_s(shot: Shot, *, extra_slow: bool = False) -> float:
    """Seconds that sampling may take for the Horde to still have the picture in time."""
    return SHARE * ttl_s(shot.pixels * 30 / 1e6, shot.family, extra_slow=extra_slow)


def shots(subject: Subject, done: Sequence[Measured], *, most_power: int, most_batch: int) -> Iterator[Shot]:
    """What to try of a subject. `done` is what came of the earlier ones; it grows while this is gone through."""
    if not subject.real:  # its size says nothing; that the engine renders it says something
        yield Shot(subject.model, subject.family, STAND_IN_SIDE, STAND_IN_SIDE)
        return
    native = native_side(subject)
    ladder = [side for side in SIDES if side >= native]
    climbing = True
    for side in ladder:
        shot = Shot(subject.model, subject.family, side, side)
        if climbing and (side == native or shot.power <= most_power):
            yield shot
            climbing = _came_well(done)
            if side == native and not climbing:
                yield from _smaller(subject, native, done)
                return
    for batch in (each for each in BATCHES if each <= most_batch):
        yield Shot(subject.model, subject.family, native, native, batch)
        if not _came_well(done):
            return


def _smaller(subject: Subject, native: int, done: Sequence[Measured]) -> Iterator[Shot]:
    """Sizes below the family's own, down to the first that works."""
    least = max(512 if native > SIDES[0] else 384, TRAITS[subject.family].min_side_px)
    for side in (side for side in (768, 512, 384) if least <= side < native):
        yield Shot(subject.model, subject.family, side, side)
        if _came_well(done):
            return


def _came_well(done: Sequence[Measured]) -> bool:
    return bool(done) and done[-1].made and done[-1].seconds <= limit_s(done[-1].shot)


def expected_s(shot: Shot, done: Sequence[Measured]) -> float:
    """Seconds that a shot's job will take, by the last of the same model; 0 where none was made."""
    made = [each for each in done if each.made and each.shot.model == shot.model]
    if not made:
        return 0.0
    last = made[-1]
    work, before = shot.pixels * shot.batch, last.shot.pixels * last.shot.batch
    return last.seconds * (work / before) * (_GROWTH if work > before else 1.0)
