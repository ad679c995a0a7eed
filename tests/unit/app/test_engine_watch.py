"""A running worker changes over to another engine, and goes back from one that fails; on scripted engines."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.engine.fake_trees import fake_tree
from worker.app.engine_watch import EngineWatch, FallBack
from worker.app.live_library import LiveLibrary
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.demo.engine.dialect import NEWER
from worker.engine.install.layout import Runtime
from worker.engine.pool import EnginePool
from worker.engine.process import EngineSettings
from worker.engine.slot import SlotState
from worker.engine.versions.probation import PROVEN_JOBS, PROVEN_S
from worker.engine.versions.shelf import Shelf
from worker.engine.versions.state import INSTALLED, EngineState
from worker.errors import ImageNotFinite
from worker.jobs.job import JobEvents, Stage
from worker.process.supervisor import RestartPolicy
from worker.workflows.library import Library

pytestmark = pytest.mark.processes

PATIENCE_S = 120.0
#: For a tree whose engine ends while it starts, and one whose snapshot lacks a node class.
BROKEN = "sys.exit('no module named aiohttp')"


@dataclass
class Rig:
    """A pool of scripted engines whose trees are on a shelf, and the watch over them."""

    folder: Path
    #: runs all engines
    python: Path
    shelf: Shelf
    live: LiveConfig
    pool: EnginePool
    watch: EngineWatch
    fall_back: FallBack
    #: seconds added to the clock of the watch
    later: list[float]
    events: JobEvents = field(default_factory=JobEvents)
    library: LiveLibrary = field(default_factory=lambda: LiveLibrary(Library.load()))

    def add(self, name: str, *, dialect: str = NEWER, before: str = "") -> None:
        def make(folder: Path) -> None:
            fake_tree(folder / "comfyui", dialect, dialect=dialect, before=before)

        self.shelf.add(name, "a test", make, python=self.python)

    @property
    def trees(self) -> list[str]:
        """The names of the trees that the engines run."""
        return [
            slot.process.settings.comfyui.parent.name if slot.process and slot.state is SlotState.READY else ""
            for slot in self.pool.slots
        ]

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(int(PATIENCE_S / 0.02)):
            if condition():
                return
            await asyncio.sleep(0.02)
        raise AssertionError((self.trees, self.shelf.state))

    async def looked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wait until the watch has seen everything that was so before."""
        look, looks = self.watch._look, 0

        async def counted(running: Any) -> None:
            nonlocal looks
            await look(running)
            looks += 1

        monkeypatch.setattr(self.watch, "_look", counted)
        await self.until(lambda: looks == 1)
        monkeypatch.setattr(self.watch, "_look", look)


@pytest.fixture
async def rig(tmp_path: Path, quick_worker_python: Path) -> AsyncIterator[Rig]:
    runtime = Runtime.locate(tmp_path, {"AIWORKER_RUNTIME_DIR": str(tmp_path / "runtime")})
    runtime = replace(runtime, comfyui=fake_tree(tmp_path / "runtime" / "comfyui"), engine_python=quick_worker_python)
    shelf, live = Shelf(runtime), LiveConfig(BridgeData())

    def engines(_: BridgeData) -> Sequence[EngineSettings]:
        chosen = shelf.runtime_for(own=False)
        return [
            EngineSettings(
                python=chosen.engine_python,
                comfyui=chosen.comfyui,
                base_directory=tmp_path / str(number),
                log_file=tmp_path / f"{number}.log",
                arguments=("--cache-classic",),
            )
            for number in (1, 2)
        ]

    pool = EnginePool(engines(live.data), restarts=lambda: RestartPolicy(backoff_s=(0.0,)))
    fall_back = FallBack(shelf, live, engines)
    later: list[float] = []
    watch = EngineWatch(
        shelf, live, engines, fall_back=fall_back, poll_s=0.02, clock=lambda: time.monotonic() + sum(later)
    )
    rig = Rig(tmp_path, quick_worker_python, shelf, live, pool, watch, fall_back, later)
    running: Any = SimpleNamespace(pool=pool, events=rig.events, library=rig.library)
    async with pool.running():
        await rig.until(lambda: all(rig.trees))
        watching = asyncio.ensure_future(watch(running))
        await asyncio.sleep(0)
        yield rig
        watching.cancel()
        await asyncio.wait([watching])


async def test_idle_engines_are_replaced_by_the_one_to_be_used_and_by_the_one_gone_back_to(rig: Rig) -> None:
    rig.add("new")
    rig.shelf.use("new")
    await rig.until(lambda: rig.trees == ["new", "new"])

    rig.shelf.use(INSTALLED, reason="the owner went back")
    await rig.until(lambda: rig.trees == ["runtime", "runtime"])
    assert [slot.restarts for slot in rig.pool.slots] == [0, 0]


async def test_a_busy_engine_finishes_its_job_gets_no_other_and_is_replaced_then(rig: Rig) -> None:
    rig.add("new")
    busy = rig.pool.slots[0]
    busy.taken = 1
    rig.shelf.use("new")
    await rig.until(lambda: rig.trees[1] == "new")
    assert rig.trees == ["runtime", "new"]
    assert busy not in rig.pool.offered_slots

    busy.taken = 0
    busy.recycle_if_due()
    await rig.until(lambda: rig.trees == ["new", "new"])
    assert len(rig.pool.offered_slots) == 2


async def test_an_engine_that_does_not_start_is_given_up_and_that_is_said(rig: Rig) -> None:
    rig.add("new", before=BROKEN)
    rig.shelf.use("new")

    await rig.until(lambda: rig.shelf.state.current == INSTALLED)
    assert "new failed in service" in rig.shelf.state.reason
    await rig.until(lambda: rig.trees == ["runtime", "runtime"])


async def test_pictures_that_are_not_finite_give_an_engine_up(rig: Rig) -> None:
    rig.add("new")
    rig.shelf.use("new")
    await rig.until(lambda: rig.trees == ["new", "new"])
    for _ in range(3):
        rig.events.enter(_job(ImageNotFinite("NaN")), Stage.FAULTED)

    await rig.until(lambda: rig.trees == ["runtime", "runtime"])
    assert "NaN" in rig.shelf.state.reason


async def test_an_engine_that_is_known_as_sound_is_kept_through_bad_days(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.add("new")
    rig.shelf.use("new")
    rig.shelf.change(lambda state: state.proven("new"))
    await rig.until(lambda: rig.trees == ["new", "new"])
    for _ in range(9):
        rig.events.enter(_job(ImageNotFinite("NaN")), Stage.FAULTED)
    await rig.looked(monkeypatch)

    assert rig.shelf.state.current == "new"


@pytest.mark.parametrize("step_s", [9e9, -9e9])
async def test_an_engine_is_sound_after_an_hour_of_service_however_the_clock_is_set(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    rig.add("new")
    rig.shelf.use("new")
    await rig.until(lambda: rig.trees == ["new", "new"])
    for _ in range(PROVEN_JOBS):
        rig.events.enter(_job(), Stage.DONE)
    # The date of its beginning, as seen after the clock was set.
    rig.shelf.change(lambda state: replace(state, since=state.since - step_s))
    await rig.looked(monkeypatch)
    assert rig.shelf.state.on_probation

    rig.later.append(PROVEN_S)
    await rig.until(lambda: not rig.shelf.state.on_probation)
    assert rig.shelf.state.current == "new"


async def test_before_the_first_engine_is_ready_the_one_before_is_taken_in_place_of_one_that_does_not_start(
    rig: Rig,
) -> None:
    rig.add("new", before=BROKEN)
    rig.shelf.use("new")
    settings = rig.fall_back("no torch")

    assert {each.comfyui for each in settings} == {rig.shelf.installed.comfyui}
    assert rig.fall_back("no torch") == ()


async def test_an_engine_that_fails_is_given_up_on_a_full_disk_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add("new", before=BROKEN)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    rig.shelf.use("new")
    monkeypatch.setattr(EngineState, "save", full)
    await rig.until(lambda: rig.shelf.in_use.name == INSTALLED)
    await rig.until(lambda: rig.trees == ["runtime", "runtime"])
    assert rig.shelf.state.current == "new"
    assert rig.fall_back("no torch") == ()


async def test_a_template_is_offered_only_while_all_engines_have_its_nodes(rig: Rig) -> None:
    everything = {template.name for template in rig.library().templates}
    rig.add("new", before=_without("UNETLoader"))
    rig.shelf.use("new")
    await rig.until(lambda: len(rig.library().templates) < len(everything))
    assert any("UNETLoader" in why for why in rig.library().disabled.values())

    rig.shelf.use(INSTALLED, reason="the owner went back")
    await rig.until(lambda: rig.trees == ["runtime", "runtime"])
    await rig.until(lambda: {template.name for template in rig.library().templates} == everything)


async def test_the_owners_own_comfyui_goes_before_all_of_that(rig: Rig) -> None:
    rig.live.change(BridgeData(comfyui_path=rig.folder))
    rig.add("new")
    rig.shelf.use("new")
    await asyncio.sleep(0.3)

    assert rig.trees == ["runtime", "runtime"]
    assert rig.fall_back("whatever") == ()


def _job(error: Exception | None = None) -> Any:
    sampling = SimpleNamespace(measured=lambda _: (0, 0.0), steps=0)
    return SimpleNamespace(error=error, stage=None, request=None, sampling=sampling)


def _without(name: str) -> str:
    """Code that has the scripted engine lack a node class."""
    return f"""
import json, os, tempfile
sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
from worker.workflows.node_classes import SNAPSHOT_FILE
classes = json.loads(SNAPSHOT_FILE.read_text("utf-8"))
del classes[{name!r}]
file = os.path.join(tempfile.mkdtemp(), "object_info.json")
open(file, "w").write(json.dumps(classes))
sys.argv += ["--object-info", file]
"""
