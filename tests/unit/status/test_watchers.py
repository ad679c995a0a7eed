"""Readers get what changed when they can take it; nothing is made while nobody looks."""

import asyncio
from itertools import count

from worker.status.watchers import Watchers


def watchers():
    numbers = count()
    made = []

    def make():
        made.append(next(numbers))
        return made[-1]

    return Watchers(make, least_s=0.0, most_s=0.001), made


async def test_nothing_is_made_while_nobody_looks():
    watching, made = watchers()
    watching.changed()
    await asyncio.sleep(0.01)
    assert made == []


async def test_a_reader_gets_the_present_one_and_then_later_ones_and_all_stops_with_the_last_reader():
    watching, made = watchers()
    reader = watching.watch()
    assert await anext(reader) == 0
    watching.changed()
    assert await anext(reader) == 1
    await reader.aclose()
    so_far = len(made)
    await asyncio.sleep(0.01)
    assert len(made) == so_far


async def test_one_snapshot_serves_all_readers_and_a_slow_one_misses_some():
    watching, made = watchers()
    fast, slow = watching.watch(), watching.watch()
    await anext(fast)
    await anext(slow)
    for _ in range(5):
        await anext(fast)
    assert await anext(slow) == made[-1]
    await fast.aclose()
    await slow.aclose()
