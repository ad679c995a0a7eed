"""A worker for a real run, put together from the owner's settings, the runtime and what this machine has."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from worker.app.engine_watch import EngineWatch, FallBack, own_engine
from worker.app.reload import SettingsWatch
from worker.app.state_dir import engines_folder
from worker.app.worker_spec import WorkerSpec
from worker.config.editing import Editor
from worker.config.environment import download_tokens
from worker.config.live import LiveConfig, in_force
from worker.config.load import LoadedConfig, config_files
from worker.config.paths import cache_home, models_root
from worker.config.schema import BridgeData
from worker.console.job_log import log_jobs
from worker.console.status_view import StatusView
from worker.dashboard.reader import Dashboard
from worker.engine.cards import card_count, find_cards
from worker.engine.devices import Device, choose_devices, engine_settings
from worker.engine.install.layout import Runtime, is_checkout
from worker.engine.install.machine import Accelerator, DeviceFlags, Host, detect_card
from worker.engine.process import EngineSettings
from worker.engine.versions.shelf import Shelf
from worker.errors import ConfigError, RuntimeMissing
from worker.horde.agent import AGENT
from worker.jobs.journal import FILE_NAME as JOURNAL_FILE
from worker.jobs.journal import Journal
from worker.models.by_demand import wanted_by_demand
from worker.models.catalog.custom import CustomModels
from worker.models.catalog.model_selection import custom_file_of, custom_of, select_from_cache
from worker.models.catalog.records import ModelRecord
from worker.models.download_plan import as_model_file
from worker.models.model_manager import ModelManager
from worker.owner.active_hours import HoursWatch
from worker.owner.maintenance import watch_maintenance
from worker.owner.suspend import ClockWatch
from worker.owner.update_watch import TrialWatch, UpdateWatch
from worker.safety.gate import SafetyGate
from worker.safety.settings import model_facts, safety_rules, safety_settings
from worker.status.history import FILE_NAME as HISTORY_FILE
from worker.system_memory import system_memory
from worker.units import GIB
from worker.workflows import packaged_folder
from worker.workflows.auxiliary_files import AESTHETIC
from worker.workflows.library import Library

#: Assumed size in bytes of a model whose reference gives none.
UNKNOWN_MODEL_BYTES = 7 * GIB


#: The settings read again: the file's, or a text's in its place.
Reread = Callable[[str | None], LoadedConfig]


def compose(
    loaded: LoadedConfig,
    runtime: Runtime,
    *,
    flags: DeviceFlags,
    logs: Path,
    home: Path,
    reread: Reread,
    at_bottom: bool = False,
) -> WorkerSpec:
    """All of the worker. Children write their logs into `logs`; `home` is the worker's own folder, whose lock is held;
    `reread` reads the settings again, or a text in their place; `at_bottom` keeps the status
    at the bottom of the terminal.

    Raises ConfigError and RuntimeMissing for what can't work.
    """
    config = loaded.data
    live = LiveConfig(config)
    custom = custom_of(config, loaded.environment)
    models = _models(loaded, custom)
    live.subscribe(models.change)
    devices = devices_for(loaded, runtime, flags)
    aesthetic = models.store.target(as_model_file(AESTHETIC))
    weights = cache_home(config, loaded.environment)

    shelf = Shelf(runtime)

    def engines_for(settings: BridgeData) -> list[EngineSettings]:
        chosen = shelf.runtime_for(own=own_engine(settings))
        require_engine(settings, chosen)
        return engine_settings(
            settings,
            chosen,
            devices=devices,
            model_paths=models.store.model_paths(),
            folder=engines_folder(home),
            logs=logs,
            memory_bytes=system_memory().total,
            largest_model_bytes=max(map(_size, _records(settings, models, custom)), default=UNKNOWN_MODEL_BYTES),
        )

    def check(text: str | None) -> LoadedConfig:
        found = reread(text)
        if text is not None:
            # As the watch over the file does it: what it would refuse is not written.
            engines_for(in_force(live.data, found.data))
        return found

    watch = SettingsWatch(loaded, config_files(loaded), partial(reread, None), engines_for)
    fall_back = FallBack(shelf, live, engines_for)
    # An installed package is its installer's to update.
    updates = is_checkout(runtime.root)
    return WorkerSpec(
        live=live,
        horde_url=config.horde_url,
        agent=config.bridge_agent or AGENT,
        engines=engines_for(config),
        models=models,
        library=library_of(config),
        safety=SafetyGate(
            settings=lambda: safety_settings(
                live.data, runtime, devices[0], cache_home=weights, home=home, logs=logs, aesthetic=aesthetic
            ),
            rules=lambda: safety_rules(live.data),
            facts=lambda name: model_facts(models.record(name)),
        ),
        journal=_journal(home),
        history=home / HISTORY_FILE,
        background=(
            watch,
            watch_maintenance,
            ClockWatch(),
            HoursWatch(),
            EngineWatch(shelf, live, engines_for, fall_back=fall_back),
            *([UpdateWatch(runtime.root)] if updates else []),
        ),
        fall_back=fall_back,
        readers=(
            *([TrialWatch(runtime.root)] if updates else []),
            log_jobs,
            StatusView(live, at_bottom=at_bottom),
            Dashboard(live, home, Editor(check)),
        ),
        reload=watch.ask,
    )


def devices_for(loaded: LoadedConfig, runtime: Runtime, flags: DeviceFlags) -> tuple[Device, ...]:
    """The devices to use. Raises ConfigError where the installed torch is for another kind than the flags name."""
    config = loaded.data
    # An engine of the owner's own brings its own torch, of which nothing is known here.
    installed = detect_card(Host()).accelerator if config.comfyui_python else runtime.accelerator
    wanted = flags.accelerator or installed or Accelerator.CPU
    if wanted not in (installed, Accelerator.CPU) and not config.comfyui_python:
        raise ConfigError(
            f"The engine was set up for {installed.value if installed else 'nothing yet'}, not for {wanted.value}.",
            remedy=f"Run update-runtime with --{wanted.value}.",
        )
    if not flags.cpu:
        _require_cards(config, wanted)
    if flags.directml is not None:
        return (Device(Accelerator.DIRECTML, flags.directml),)
    return choose_devices(config, wanted, cards=find_cards(wanted, loaded.environment))


def _require_cards(config: BridgeData, accelerator: Accelerator) -> None:
    """Raise ConfigError for GPU numbers in `devices` that do not exist."""
    numbers = [device for device in config.devices if isinstance(device, int)]
    if numbers and accelerator is Accelerator.CPU:
        raise ConfigError(
            "devices lists GPU numbers, but the engine was set up for the CPU.",
            remedy="Set devices to auto, run update-runtime with --cuda or --rocm, or start with --cpu.",
        )
    count = card_count(accelerator) if numbers else None
    if absent := [number for number in numbers if count is not None and number >= count]:
        there = f"the cards are 0 to {(count or 1) - 1}" if count else "there is no card"
        raise ConfigError(
            f"devices lists {', '.join(map(str, absent))}, but {there}.",
            remedy="Correct devices, or set it to auto; nvidia-smi shows the numbers.",
        )


def require_engine(config: BridgeData, runtime: Runtime) -> None:
    """Raises RuntimeMissing where there is no engine to start; whether it is the newest is the launcher's concern."""
    python, comfyui = config.comfyui_python or runtime.engine_python, config.comfyui_path or runtime.comfyui
    for path in (python, comfyui / "main.py"):
        if not path.exists():
            raise RuntimeMissing(
                f"There is no {path}.", remedy="Run update-runtime, or mend comfyui_path and comfyui_python."
            )


def _journal(home: Path) -> Journal:
    try:
        return Journal(home / JOURNAL_FILE)
    except OSError as error:
        raise ConfigError(f"{home} can't be written to: {error.strerror}.", remedy="Check its permissions.") from error


def _models(loaded: LoadedConfig, custom: CustomModels) -> ModelManager:
    config, environment = loaded.data, loaded.environment
    return ModelManager(
        config,
        models_root(config, environment),
        custom=custom,
        tokens=download_tokens(config, environment),
        custom_file=custom_file_of(environment),
    )


def _records(config: BridgeData, models: ModelManager, custom: CustomModels) -> tuple[ModelRecord, ...]:
    """The models that may be offered with these settings, as far as known from disk."""
    selection = select_from_cache(config, models.store.root, custom)
    listed = selection.records
    return (*listed, *wanted_by_demand(config, selection, models.store.is_complete).selection.records)


def library_of(config: BridgeData) -> Library:
    """Our workflows and the owner's."""
    own = () if config.workflows_dir is None else (config.workflows_dir,)
    return Library.load(packaged_folder(), *own, approved_classes=config.approved_node_classes)


def _size(record: ModelRecord) -> int:
    return record.size or UNKNOWN_MODEL_BYTES
