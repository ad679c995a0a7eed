"""A slot keeps an engine running: restarts by policy, rest after too many deaths, an end without leftovers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil
import pytest

from worker.demo.engine.script import Fault, FaultKind, strikes
from worker.engine.process import EngineProcess, EngineSettings
from worker.engine.slot import EngineSlot, SlotState
from worker.errors import EngineDied, EngineStalled, EngineStartFailed
from worker.process import child
from worker.process.supervisor import RestartPolicy

Play = Callable[..., None]
Build = Callable[..., dict[str, Any]]
Until = Callable[[Callable[[], object]], Awaitable[None]]

#: A rest that no test outlives.
FOR_EVER_S = 3600.0


@pytest.fixture
async def slot(settings: EngineSettings) -> AsyncIterator[EngineSlot]:
    """A slot that is alive, restarting at once."""
    slot = EngineSlot(1, settings, policy=RestartPolicy(backoff_s=(0.0,), limit=2, set_aside_s=FOR_EVER_S))
    life = asyncio.ensure_future(slot.run())
    yield slot
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


def pid_of(slot: EngineSlot) -> int:
    assert slot.process is not None
    return slot.process.pid


async def test_a_slot_becomes_ready_and_renders(slot: EngineSlot, plain_graph: Build, until: Until) -> None:
    await until(lambda: slot.state is SlotState.READY)

    assert len(await slot.client.render(plain_graph(), ("out",))) == 1
    assert "HordeImageOutput" in slot.object_info
    assert slot.restarts == 0


async def test_there_is_no_client_before_the_engine_is_ready(slot: EngineSlot) -> None:
    with pytest.raises(EngineDied, match="Engine 1 is not running"):
        _ = slot.client
    assert slot.object_info == {}


async def test_a_dead_engine_is_replaced_by_a_new_one(slot: EngineSlot, plain_graph: Build, until: Until) -> None:
    await until(lambda: slot.state is SlotState.READY)
    first = pid_of(slot)

    psutil.Process(first).kill()
    await until(lambda: slot.state is not SlotState.READY)
    assert isinstance(slot.reason, EngineDied)
    await until(lambda: slot.state is SlotState.READY)

    assert pid_of(slot) != first
    assert slot.restarts == 1
    assert len(await slot.client.render(plain_graph(), ("out",))) == 1


async def test_a_wish_for_a_restart_ends_the_engine_and_its_model(slot: EngineSlot, until: Until) -> None:
    await until(lambda: slot.state is SlotState.READY)
    first = pid_of(slot)
    slot.uses("a model")

    slot.restart(EngineStalled("It stands still."))
    slot.restart(EngineDied("A second voice is not heard."))
    assert slot.state is SlotState.RESTING
    await until(lambda: slot.state is SlotState.READY)

    assert not psutil.pid_exists(first)
    assert (slot.restarts, slot.models) == (1, ())
    assert isinstance(slot.reason, EngineStalled)


async def test_a_late_word_about_an_earlier_engine_does_not_end_the_present_one(slot: EngineSlot, until: Until) -> None:
    await until(lambda: slot.state is SlotState.READY)
    earlier = slot.process
    slot.restart(EngineStalled("It stands still."), of=earlier)
    await until(lambda: slot.state is SlotState.READY)

    slot.restart(EngineStalled("It stood still for me as well."), of=earlier)

    assert slot.state is SlotState.READY
    slot.restart(EngineStalled("This one does too."), of=slot.process)
    assert slot.state is SlotState.RESTING


async def test_too_many_deaths_set_the_slot_aside(slot: EngineSlot, script_file: Any, play: Play, until: Until) -> None:
    play(faults=(Fault(FaultKind.START_FAILURE, times=None),))

    await until(lambda: slot.restarts == 3)

    assert slot.state is SlotState.RESTING
    assert isinstance(slot.reason, EngineStartFailed)
    assert strikes(script_file) == {FaultKind.START_FAILURE: 3}


async def test_a_defect_of_ours_takes_the_engine_out_of_service_and_not_the_worker(
    slot: EngineSlot, plain_graph: Build, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    async def fail(_: EngineProcess) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError

    await until(lambda: slot.state is SlotState.READY)
    monkeypatch.setattr(EngineProcess, "start", fail)
    slot.restart(EngineStalled("It stands still."))
    await until(lambda: slot.restarts == 2)
    assert "ZeroDivisionError" in str(slot.reason)

    await until(lambda: slot.state is SlotState.READY)
    assert len(await slot.client.render(plain_graph(), ("out",))) == 1


async def test_the_log_of_a_running_engine_is_kept_short(
    slot: EngineSlot, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    slot.log_check_s = 0.01
    monkeypatch.setattr(child, "LOG_LIMIT_BYTES", 0)
    await until(lambda: slot.state is SlotState.READY)

    with slot.settings.log_file.open("ab") as log:
        log.write(b"x" * 1000)

    await until(lambda: slot.settings.log_file.stat().st_size == 0)
    assert slot.state is SlotState.READY


async def test_every_change_is_told(settings: EngineSettings, until: Until) -> None:
    told: list[SlotState] = []
    slot = EngineSlot(1, settings, on_change=lambda changed: told.append(changed.state))
    life = asyncio.ensure_future(slot.run())
    await until(lambda: slot.state is SlotState.READY)
    slot.restart(EngineStalled("…"))
    await until(lambda: slot.state is SlotState.READY)
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)

    ready, resting, starting = SlotState.READY, SlotState.RESTING, SlotState.STARTING
    assert told == [ready, resting, starting, ready, SlotState.STOPPED]


@pytest.mark.parametrize("stage", [SlotState.STARTING, SlotState.READY])
async def test_the_end_of_a_slot_is_the_end_of_its_engine(
    settings: EngineSettings, play: Play, until: Until, stage: SlotState
) -> None:
    play(start_seconds=FOR_EVER_S if stage is SlotState.STARTING else 0)
    slot = EngineSlot(1, settings)
    life = asyncio.ensure_future(slot.run())
    await until(lambda: slot.process is not None and slot.process.pid and slot.state is stage)
    pid = pid_of(slot)

    life.cancel()
    await asyncio.gather(life, return_exceptions=True)

    assert slot.state is SlotState.STOPPED
    assert not psutil.pid_exists(pid)


async def test_a_slot_that_ends_while_its_engine_is_being_stopped_hangs_up_all_the_same(
    settings: EngineSettings, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = EngineSlot(1, settings)
    life = asyncio.ensure_future(slot.run())
    await until(lambda: slot.state is SlotState.READY)
    client, stopping = slot.client, asyncio.Event()

    async def stop_slowly(_: EngineProcess) -> None:
        stopping.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(EngineProcess, "stop", stop_slowly)
        slot.restart(EngineDied("…"))
        await stopping.wait()
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)

    assert client._connection._http.is_closed
    assert slot.process is not None
    await slot.process.stop(timeout_s=0)


async def test_an_engine_that_can_not_be_killed_is_fenced_until_it_is_gone(
    slot: EngineSlot, monkeypatch: pytest.MonkeyPatch, until: Until, plain_graph: Build
) -> None:
    async def in_vain(*_: object) -> bool:
        return False

    await until(lambda: slot.state is SlotState.READY)
    stuck = pid_of(slot)
    with monkeypatch.context() as patch:
        patch.setattr(child, "_ends", in_vain)
        slot.restart(EngineStalled("It stands still."))
        await until(lambda: slot.state is SlotState.STUCK)

    with pytest.raises(EngineDied):
        _ = slot.client
    assert psutil.pid_exists(stuck)
    psutil.Process(stuck).kill()
    await until(lambda: slot.state is SlotState.READY)
    assert pid_of(slot) != stuck
    assert len(await slot.client.render(plain_graph(), ("out",))) == 1
