"""Maintenance mode is told or ended at the start, and entered while nothing works, as the owner wishes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.errors import HordeRefused, HordeUnreachable
from worker.horde.account import switch_maintenance
from worker.horde.messages import WorkerDetails
from worker.owner.maintenance import BROKEN, AutoMaintenance, watch_maintenance


class Horde:
    def __init__(self, *, maintenance=False, paused=False, known=True, error=None) -> None:
        details = WorkerDetails(id="w1", name="me", maintenance_mode=maintenance, paused=paused)
        self.worker = details if known else None
        self.error = error
        self.switched = []

    async def worker_by_name(self, name):
        if self.error:
            raise self.error
        return self.worker

    async def set_maintenance(self, worker_id, on, message=""):
        self.switched.append((worker_id, on, message))


def running(horde, *, engines=1, **config):
    data = BridgeData.model_validate({"dreamer_name": "me", **config})
    return SimpleNamespace(live=LiveConfig(data), horde=horde, pool=SimpleNamespace(ready_slots=["engine"] * engines))


async def start(worker):
    """The beginning of the watch: all that it does before its first pause."""
    watching = asyncio.ensure_future(watch_maintenance(worker))
    for _ in range(20):
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_maintenance_is_told_with_how_to_end_it(said):
    horde = Horde(maintenance=True)
    await start(running(horde))
    assert len(said) == 1
    assert "horde-bridge maintenance off" in said[0]
    assert horde.switched == []


async def test_a_maintenance_is_ended_where_the_settings_say_so(said):
    horde = Horde(maintenance=True)
    await start(running(horde, remove_maintenance_on_init=True))
    assert horde.switched == [("w1", False, "")]
    assert "taken out" in said[0]


@pytest.mark.parametrize("horde", [Horde(), Horde(known=False)])
async def test_a_worker_in_service_or_unknown_has_nothing_told(horde, said):
    await start(running(horde, remove_maintenance_on_init=True))
    assert said == []
    assert horde.switched == []


async def test_a_pause_by_a_moderator_is_told(said):
    await start(running(Horde(paused=True)))
    assert "moderator" in said[0]


async def test_a_horde_that_does_not_answer_is_no_reason_to_stop(said):
    await start(running(Horde(error=HordeUnreachable("No answer."))))
    assert "not known" in said[0]


async def test_after_so_long_without_an_engine_the_worker_goes_into_maintenance_once_and_comes_out_again():
    horde, maintenance = Horde(), AutoMaintenance()
    broken = running(horde, engines=0, maintenance_when_broken_minutes=10)
    for now in range(0, 3600, 60):
        await maintenance.look(broken, now=float(now))
        assert bool(horde.switched) == (now >= 600)
    assert horde.switched == [("w1", True, BROKEN)]
    mended = running(horde, engines=1, maintenance_when_broken_minutes=10)
    for _ in range(3):
        await maintenance.look(mended, now=3700.0)
    assert horde.switched[1:] == [("w1", False, "")]


async def test_a_maintenance_of_the_owners_is_left_to_its_owner():
    horde, maintenance = Horde(maintenance=True), AutoMaintenance()
    for now in range(0, 3600, 60):
        await maintenance.look(running(horde, engines=0, maintenance_when_broken_minutes=10), now=float(now))
    await maintenance.look(running(horde, engines=1, maintenance_when_broken_minutes=10), now=4000.0)
    assert horde.switched == []


async def test_a_short_failure_is_no_reason():
    horde, maintenance = Horde(), AutoMaintenance()
    for now in range(0, 36000, 300):
        engines = 0 if now % 600 else 1
        await maintenance.look(running(horde, engines=engines, maintenance_when_broken_minutes=10), now=float(now))
    assert horde.switched == []


async def test_by_default_it_never_does():
    horde, maintenance = Horde(), AutoMaintenance()
    for now in (0.0, 1e6):
        await maintenance.look(running(horde, engines=0), now=now)
    assert horde.switched == []


async def test_a_switch_that_fails_is_tried_again_after_a_while():
    horde, maintenance = Horde(error=HordeUnreachable("No answer.")), AutoMaintenance()
    broken = running(horde, engines=0, maintenance_when_broken_minutes=1)
    await maintenance.look(broken, now=0.0)
    await maintenance.look(broken, now=100.0)
    horde.error = None
    await maintenance.look(broken, now=105.0)
    assert horde.switched == []
    await maintenance.look(broken, now=200.0)
    assert horde.switched == [("w1", True, BROKEN)]


async def test_a_worker_that_the_horde_does_not_know_can_not_be_switched():
    horde: Any = Horde(known=False)
    with pytest.raises(HordeRefused, match="'me'") as caught:
        await switch_maintenance(horde, "me", on=True)
    assert caught.value.remedy
