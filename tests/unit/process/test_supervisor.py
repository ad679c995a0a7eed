"""A child is started again whenever it ends: at once, later, or much later, and whatever its life raises."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from tests.clock import ManualClock
from worker.aio import timeout
from worker.errors import EngineDied, EngineStartFailed, WorkerError
from worker.process.supervisor import RestartPolicy, Supervisor

PATIENCE_S = 60.0


def test_restarts_in_a_row_wait_longer_each_time() -> None:
    policy = RestartPolicy(backoff_s=(0.0, 2.0, 10.0), limit=9)

    assert [policy.died(now) for now in (0, 1, 2, 3, 4)] == [0.0, 2.0, 10.0, 10.0, 10.0]


def test_one_death_too_many_within_the_window_sets_the_slot_aside() -> None:
    policy = RestartPolicy(limit=2, window_s=100, set_aside_s=900)

    assert [policy.died(now) for now in (0, 1, 2)] == [0.0, 2.0, 900]


def test_after_its_rest_a_slot_begins_anew() -> None:
    policy = RestartPolicy(limit=1, window_s=100, set_aside_s=900)
    assert [policy.died(now) for now in (0, 1)] == [0.0, 900]

    assert policy.died(2) == 0.0


def test_deaths_before_the_window_are_forgotten() -> None:
    policy = RestartPolicy(limit=1, window_s=100)

    assert [policy.died(now) for now in (0, 100, 200, 299)] == [0.0, 0.0, 0.0, policy.set_aside_s]


def test_an_engine_that_served_for_long_makes_up_for_the_deaths_before_it() -> None:
    policy = RestartPolicy(backoff_s=(0.0, 2.0, 10.0), limit=2, window_s=3600, stable_s=600)

    assert [policy.died(now, served_s=served) for now, served in ((0, 0), (100, 50), (800, 650), (900, 50))] == [
        0.0, 2.0, 0.0, 2.0,
    ]  # fmt: skip


def test_an_engine_that_takes_minutes_to_die_each_time_is_set_aside_all_the_same() -> None:
    policy = RestartPolicy()

    assert policy.set_aside_s in [policy.died(now, served_s=150) for now in range(0, 1500, 250)]


@given(st.lists(st.floats(min_value=0.001, max_value=1000), min_size=1, max_size=50))
def test_no_window_ever_holds_more_restarts_than_the_limit(gaps: list[float]) -> None:
    policy = RestartPolicy(limit=3, window_s=600, set_aside_s=900)
    now = 0.0
    starts: list[float] = []
    for gap in gaps:
        now += policy.died(now)
        starts.append(now)
        assert sum(start > now - policy.window_s for start in starts) <= policy.limit + 1
        now += gap


class Lives:
    """A child whose lives go as told, one after another; the last one lasts."""

    def __init__(self, *lives: Callable[[], Awaitable[None]], policy: RestartPolicy | None = None) -> None:
        self.clock = ManualClock()
        self.down: list[tuple[str, float]] = []
        self.begun = 0
        self.lasts = asyncio.Event()
        self._lives = list(lives)
        self.supervisor = Supervisor(
            "child",
            self._life,
            policy=policy or RestartPolicy(backoff_s=(0.0,), limit=1000),
            on_down=lambda error, pause_s: self.down.append((error.message, pause_s)),
            clock=self.clock,
        )

    async def _life(self) -> None:
        self.begun += 1
        if self._lives:
            await self._lives.pop(0)()
        else:
            self.lasts.set()
            await asyncio.Event().wait()

    async def run(self) -> None:
        """Until the last life has begun."""
        running = asyncio.ensure_future(self.supervisor.run())
        async with timeout(PATIENCE_S):
            await self.lasts.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def raises(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def life() -> None:
        raise error

    return life


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EngineDied("It ended."), "It ended."),
        (EngineStartFailed("It never answered."), "It never answered."),
        (ZeroDivisionError("a defect"), "internal error: ZeroDivisionError: a defect."),
        (RecursionError("too deep"), "internal error: RecursionError: too deep."),
        (MemoryError(), "internal error: MemoryError: ."),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_whatever_a_life_raises_is_told_and_another_life_begins(error: BaseException, told: str) -> None:
    lives = Lives(raises(error))
    await lives.run()

    assert lives.down == [(told, 0.0)]
    assert (lives.begun, lives.supervisor.restarts) == (2, 1)


async def test_a_life_that_returns_is_followed_by_another_and_counts_as_no_loss() -> None:
    async def replaced() -> None:
        pass

    lives = Lives(replaced, replaced)
    await lives.run()

    assert lives.down == []
    assert (lives.begun, lives.supervisor.restarts) == (3, 0)


async def test_failed_starts_are_counted_until_a_child_serves() -> None:
    counted: list[int] = []

    async def serve_and_die() -> None:
        counted.append(lives.supervisor.failed_starts)
        lives.supervisor.serving()
        raise EngineDied("…")

    lives = Lives(raises(EngineStartFailed("…")), raises(EngineStartFailed("…")), serve_and_die)
    await lives.run()

    assert counted == [2]
    assert lives.supervisor.failed_starts == 0


async def test_a_child_that_served_for_long_is_started_again_at_once() -> None:
    async def serve_and_die() -> None:
        lives.supervisor.serving()
        lives.clock.advance(700)
        assert lives.supervisor.served_s == 700
        raise EngineDied("…")

    lives = Lives(*[serve_and_die] * 3, policy=RestartPolicy(backoff_s=(0.0, 3600.0), limit=2, stable_s=600))
    await lives.run()

    assert [pause_s for _, pause_s in lives.down] == [0.0] * 3


async def test_the_pause_of_the_policy_is_kept() -> None:
    down = asyncio.Event()
    lives = Lives(raises(WorkerError("…")), policy=RestartPolicy(backoff_s=(3600.0,)))
    lives.supervisor.on_down = lambda _error, _pause_s: down.set()
    running = asyncio.ensure_future(lives.supervisor.run())
    await down.wait()
    for _ in range(10):
        await asyncio.sleep(0)

    assert lives.begun == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_lasting_reason_is_said_once() -> None:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]))
    try:
        await Lives(*[raises(EngineStartFailed("No disk."))] * 3, raises(EngineStartFailed("No card."))).run()
    finally:
        logger.remove(sink)

    assert [line for line in said if "is down" in line] == [
        "The child is down: No disk. Starting it again.",
        "The child is down again for the same reason. Starting it again.",
        "The child is down again for the same reason. Starting it again.",
        "The child is down: No card. Starting it again.",
    ]
