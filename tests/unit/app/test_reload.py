"""The settings are read again when their file changes, and only good ones take effect."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger

from worker.app.reload import SettingsWatch
from worker.config.live import LiveConfig
from worker.config.load import config_files, load_config
from worker.config.schema import BridgeData
from worker.engine.pool import EnginePool
from worker.errors import RuntimeMissing

PATIENCE_S = 60.0


@dataclass
class Rig:
    """A file, the watch over it, and what it does."""

    file: Path
    said: list = field(default_factory=list)
    refuse: bool = False

    def __post_init__(self):
        self.write("max_power: 8")
        loaded = self.load()
        self.live = LiveConfig(loaded.data)
        self.old = SimpleNamespace(device="cuda:0", made_from=None)
        self.slot = SimpleNamespace(settings=self.old)
        self.wanted_devices = ["cuda:0"]
        pool: Any = SimpleNamespace(slots=[self.slot])
        pool.give_settings = partial(EnginePool.give_settings, pool)
        self.running: Any = SimpleNamespace(live=self.live, pool=pool)
        self.reads = 0
        self.watch = SettingsWatch(loaded, config_files(loaded), self._reread, self._engines, poll_s=0.01)

    def load(self):
        return load_config(self.file, environment={})

    def _reread(self):
        self.reads += 1
        return self.load()

    def _engines(self, data):
        if self.refuse:
            raise RuntimeMissing("There is no engine.")
        return [SimpleNamespace(device=device, made_from=data) for device in self.wanted_devices]

    def write(self, text):
        draft = self.file.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.file)

    async def until(self, condition):
        for _ in range(int(PATIENCE_S / 0.02)):
            if condition():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(self.said)

    async def heard(self, text):
        await self.until(lambda: any(text in line for line in self.said))


@pytest.fixture
async def rig(tmp_path):
    rig = Rig(tmp_path / "bridgeData.yaml")
    sink = logger.add(lambda message: rig.said.append(message.record["message"]), level="INFO")
    watching = asyncio.ensure_future(rig.watch(rig.running))
    yield rig
    logger.remove(sink)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_changed_file_takes_effect_and_is_told(rig):
    rig.write("max_power: 64\nmax_threads: 3")
    await rig.heard("max_power 8 → 64: takes effect at once. max_threads 1 → 3: takes effect after a restart")
    assert (rig.live.data.max_power, rig.live.data.max_threads) == (64, 1)


async def test_those_who_listen_hear_of_the_change(rig):
    heard = []
    rig.live.subscribe(lambda before, after: heard.append((before.max_power, after.max_power)))
    rig.write("max_power: 32")
    await rig.until(lambda: heard)
    assert heard == [(8, 32)]


async def test_a_wrong_file_changes_nothing_and_is_told_with_its_line(rig):
    rig.write("max_power: 64\nmax_batch: many")
    await rig.heard("bridgeData.yaml:2: max_batch: 'many' is not allowed")
    assert rig.live.data.max_power == 8
    rig.write("max_power: 16")
    await rig.until(lambda: rig.live.data.max_power == 16)


async def test_a_file_that_is_gone_changes_nothing(rig):
    rig.file.unlink()
    await rig.heard("there is no such file")
    assert rig.live.data.max_power == 8
    rig.write("max_power: 16")
    await rig.until(lambda: rig.live.data.max_power == 16)


async def test_a_key_that_needs_a_restart_is_told_once_and_not_at_each_reading(rig):
    rig.write("max_threads: 2\nmax_power: 9")
    await rig.heard("max_threads")
    rig.write("max_threads: 2\nmax_power: 10")
    await rig.heard("max_power 9 → 10")
    assert sum("max_threads" in line for line in rig.said) == 1


async def test_engines_get_their_new_settings_for_their_next_start(rig):
    rig.write("high_memory_mode: true\nunload_models_from_vram_often: false")
    await rig.heard("at the next engine start")
    assert rig.slot.settings.made_from.high_memory_mode


@pytest.mark.parametrize(
    ("key", "when"),
    [
        ("unload_models_from_vram_often: false", "at the next engine start"),
        ("cycle_process_on_model_change: true", "at once"),
        ("models_to_load: [Deliberate]", "at once"),
    ],
)
async def test_whatever_changes_reaches_the_engines_if_it_is_of_their_concern(rig, key, when):
    rig.write(key)
    await rig.heard(f"takes effect {when}")
    assert rig.slot.settings.made_from == rig.live.data


async def test_engines_stay_where_they_are_when_there_would_be_another_number_of_them(rig):
    rig.wanted_devices = ["cuda:0", "cuda:0"]
    rig.write("allow_post_processing: true\nhigh_memory_mode: true")
    await rig.heard("another number of engines")
    await rig.heard("after a restart of the worker")
    assert rig.slot.settings is rig.old
    assert rig.live.data.allow_post_processing


@pytest.mark.parametrize(
    "keys", ["max_threads: 2", "devices: [0, 1]", "device_settings: [{device: 0, max_threads: 2}]",
             "post_process_job_overlap: true"],
)  # fmt: skip
async def test_keys_that_make_engines_are_said_to_need_a_restart_and_reach_none(rig, keys):
    rig.write(f"{keys}\nhigh_memory_mode: true")
    await rig.heard("takes effect after a restart of the worker")
    key = keys.partition(":")[0]
    assert getattr(rig.slot.settings.made_from, key) == getattr(BridgeData(), key)


async def test_settings_that_no_engine_can_run_with_change_nothing(rig):
    rig.refuse = True
    rig.write("high_memory_mode: true\nmax_power: 64")
    await rig.heard("There is no engine.")
    assert rig.slot.settings is rig.old
    assert rig.live.data.max_power == 8


async def test_a_file_beside_it_with_variables_counts_too(rig):
    (rig.file.parent / ".env").write_text("AIWORKER_LORA_CACHE_SIZE=20")
    await rig.heard("max_lora_cache_size 10 → 20")


async def test_on_request_the_file_is_read_though_nothing_changed(rig):
    await asyncio.sleep(0)
    rig.watch.ask()
    await rig.heard("nothing has changed")
    assert rig.reads == 1


async def test_a_request_that_comes_while_another_is_served_is_not_lost(rig):
    reread, loop = rig.watch.reread, asyncio.get_running_loop()

    def ask_once_more():
        if rig.reads == 0:
            loop.call_soon_threadsafe(rig.watch.ask)
        return reread()

    rig.watch.reread = ask_once_more
    await asyncio.sleep(0)
    rig.watch.ask()
    await rig.until(lambda: rig.reads == 2)


async def test_an_untouched_file_is_not_read_again(rig):
    looks = []
    stamp = rig.watch._stamp
    rig.watch._stamp = lambda: looks.append(1) or stamp()
    await rig.until(lambda: len(looks) > 5)
    assert rig.reads == 0


async def test_settings_of_the_environment_can_not_be_read_again(tmp_path):
    loaded = load_config(tmp_path / "none.yaml", environment={"AIWORKER_MAX_POWER": "16"}, from_env=True)
    assert config_files(loaded) == ()
