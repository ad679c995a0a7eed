"""What the running worker does about newer versions of itself."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from worker.aio import timeout
from worker.config.schema import BridgeData
from worker.errors import HostUnreachable
from worker.owner.update_watch import TrialWatch, UpdateWatch
from worker.update import stage as staging
from worker.update.releases import Offer
from worker.update.switch import FOLDER, Journal, read_journal, takes_restart, write_journal

OFFER = Offer("9.0.0", "https://example.org/x", "ab" * 32, 10)


class Running:
    def __init__(self, **settings: Any) -> None:
        self.live = SimpleNamespace(data=BridgeData.model_validate(settings))
        self.finished = False
        self.steering = SimpleNamespace(finish=self._finish)
        self.status = self

    def _finish(self) -> None:
        self.finished = True


async def watch(root, running: Running, looking, *, looks: int = 1, until=lambda: True) -> None:
    """Run the watch for so many looks, and until something has come of them."""
    seen = 0

    async def counted(*arguments):
        nonlocal seen
        seen += 1
        return await looking(*arguments)

    task = asyncio.ensure_future(UpdateWatch(root, first_s=0, period_s=0.01, looking=counted)(running))  # type: ignore[arg-type]
    async with timeout(60):
        while not (task.done() or (seen >= looks and until())):
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def offered(*_):
    return OFFER


async def unreachable(*_):
    raise HostUnreachable("nobody answers")


def journal(root, phase: str) -> None:
    (root / FOLDER).mkdir(exist_ok=True)
    write_journal(root, Journal(phase, "2.0.0", "1.0.0", source="staged-2", backup="before-2"))


@pytest.mark.asyncio
async def test_a_newer_version_is_told_once_and_nothing_else_happens(tmp_path, said):
    running = Running()
    await watch(tmp_path, running, offered, looks=3)
    assert len([line for line in said if "9.0.0 is there" in line]) == 1
    assert not running.finished


@pytest.mark.asyncio
async def test_with_auto_it_is_staged_and_the_worker_finishes_to_start_again(tmp_path, said, monkeypatch):
    async def stage(root, offer, _tell):
        journal(root, "staged")
        return staging.Staged(offer, (), ("max_power: changed",))

    monkeypatch.setattr("worker.owner.update_watch.stage", stage)
    running = Running(auto_update="auto")
    await watch(tmp_path, running, offered, until=lambda: running.finished)
    assert running.finished
    assert takes_restart(tmp_path)
    assert not takes_restart(tmp_path)
    assert any("max_power" in line for line in said)


@pytest.mark.asyncio
async def test_off_never_looks_and_a_network_away_is_no_trouble(tmp_path, said):
    resting = UpdateWatch(tmp_path, first_s=0, period_s=0.01, looking=unreachable)
    task = asyncio.ensure_future(resting(Running(auto_update="off")))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    task.cancel()
    assert not any("newer version" in line for line in said)
    running = Running(auto_update="auto")
    told = lambda: any("nobody answers" in line for line in said)  # noqa: E731
    await watch(tmp_path, running, unreachable, looks=2, until=told)
    assert not running.finished
    assert told()


@pytest.mark.asyncio
async def test_what_serves_is_confirmed(tmp_path, said):
    journal(tmp_path, "trial")
    await watch(tmp_path, Running(), unreachable)
    left = read_journal(tmp_path)
    assert left is not None
    assert left.phase == "settled"
    assert "Version 2.0.0 serves, and stays." in said


@pytest.mark.asyncio
async def test_what_does_not_serve_in_time_is_given_up(tmp_path, warnings):
    journal(tmp_path, "trial")
    running = Running()
    await TrialWatch(tmp_path, trial_s=0.01)(running)  # type: ignore[arg-type]
    left = read_journal(tmp_path)
    assert left is not None
    assert (left.phase, left.version, left.is_return) == ("staged", "1.0.0", True)
    assert running.finished
    assert takes_restart(tmp_path)
    assert any("not served" in line for line in warnings)


@pytest.mark.asyncio
async def test_without_a_trial_nothing_is_watched(tmp_path):
    running = Running()
    await TrialWatch(tmp_path, trial_s=0.0)(running)  # type: ignore[arg-type]
    assert not running.finished
