"""The plan carried out within its time: every model's sizes and batches, then several engines at once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from loguru import logger

from worker.benchmark.measurements import End, Findings, Measured, Shot, Subject
from worker.benchmark.plan import expected_s, limit_s, native_side, shots
from worker.benchmark.studio import LOAD_LIMIT_S, Studio, studios
from worker.errors import EngineError, EngineStartFailed
from worker.setup.card import MachineFacts
from worker.units import GIB

#: Memory of card and machine below which a second engine has no place for a model.
TWO_ENGINES_CARD, TWO_ENGINES_RAM = 20 * GIB, 44 * GIB
#: Pictures that two engines make beside each other.
PICTURES = 3
#: A shot is a tenth or so of the job it stands for, and not begun with less time than this left.
LEAST_LEFT_S = 5.0
#: The largest pictures and batches that are tried, as max_power and max_batch.
MOST_POWER, MOST_BATCH = 128, 16

Tell = Callable[[str, float], None]


async def measure(
    subjects: Sequence[Subject], machine: MachineFacts, make: Callable[[int], Studio], tell: Tell, *, within_s: float
) -> Findings:
    """All that there is time for; `make` gives a studio for an engine of this number, `tell` hears what is tried and
    the share of the time that has passed. Raises EngineStartFailed when no engine ever starts.
    """
    began = time.monotonic()
    measured: list[Measured] = []

    def left_s() -> float:
        return within_s - (time.monotonic() - began)

    cut_short = False
    async with studios([make(1)]) as (studio,):
        for number, subject in enumerate(subjects):
            # What is left is shared, so that the first model does not take it all.
            share_s = left_s() / (len(subjects) - number)
            until = time.monotonic() + share_s
            done: list[Measured] = []
            for shot in shots(subject, done, most_power=MOST_POWER, most_batch=MOST_BATCH):
                room_s = until - time.monotonic()
                # A shot makes ten steps; a job thirty.
                if room_s < LEAST_LEFT_S or (done and expected_s(shot, done) / 2 > room_s):
                    cut_short = True
                    break
                tell(str(shot), 1 - left_s() / within_s)
                done.append(await _shoot(studio, shot, room_s, first=not measured and not done))
                logger.debug("Benchmark: {} {}", shot, done[-1])
            measured += done
        together = {}
        if left_s() > LEAST_LEFT_S and (pair := _for_two(subjects, machine, measured)):
            tell(f"{pair}, two engines", 1 - left_s() / within_s)
            gain = await _two(studio, make(2), pair, within_s=left_s())
            together = {2: gain} if gain else {}
    tell("", 1.0)
    return Findings(tuple(subjects), tuple(measured), together, cut_short)


async def _shoot(studio: Studio, shot: Shot, room_s: float, *, first: bool) -> Measured:
    try:
        return await studio.shoot(shot, within_s=min(room_s, limit_s(shot) + LOAD_LIMIT_S))
    except EngineStartFailed as error:
        # After pictures were made it is the machine that ran out of something.
        if first:
            raise
        return Measured(shot, End.CRASHED, why=" ".join(error.message.split())[:200])


def _for_two(subjects: Sequence[Subject], machine: MachineFacts, measured: Sequence[Measured]) -> Shot | None:
    """What two engines try together: the first model's own size, where card and machine hold two models."""
    card = machine.card
    if card is None or card.memory < TWO_ENGINES_CARD or machine.ram < TWO_ENGINES_RAM:
        return None
    native = {subject.model: native_side(subject) for subject in subjects if subject.real}
    made = (each.shot for each in measured if each.made and each.shot.batch == 1)
    return next((shot for shot in made if shot.width == native.get(shot.model)), None)


async def _two(first: Studio, second: Studio, shot: Shot, *, within_s: float) -> float:
    """How much more two engines do at the same time than one; 0 where they can't, or there is no time to see."""
    try:
        async with studios([second]):
            alone = await asyncio.wait_for(first.pace(shot, PICTURES), within_s)
            await asyncio.wait_for(second.pace(replace(shot), 1), within_s)
            both = asyncio.gather(first.pace(shot, PICTURES), second.pace(shot, PICTURES))
            began = time.perf_counter()
            await asyncio.wait_for(both, within_s)
            return 2 * alone / (time.perf_counter() - began)
    except (EngineError, asyncio.TimeoutError) as error:
        logger.debug("Two engines at once: {}", error)
        return 0.0
