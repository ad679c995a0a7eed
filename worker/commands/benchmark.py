"""`benchmark`: measure what the card can do, and propose settings."""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from worker import logs
from worker.app.build import UNKNOWN_MODEL_BYTES, devices_for, library_of, require_engine
from worker.app.state_dir import only_one, worker_folder, workers_folder
from worker.benchmark.measurements import Findings, Subject
from worker.benchmark.proposals import LEAST_KUDOS_PER_HOUR, LEAST_MPS, Demand, Proposal, demands, propose
from worker.benchmark.run import Tell, measure
from worker.benchmark.studio import Studio
from worker.commands.options import AsJson, ConfigFile, FromEnvironment, set_up_installed, settings_or_defaults
from worker.commands.output import answer, answer_json, answer_table
from worker.config.key_types import in_yaml
from worker.config.load import FILE_NAME, LoadedConfig
from worker.config.paths import models_root
from worker.config.write_back import change_settings
from worker.dashboard.whereabouts import running_workers
from worker.demo import tinies
from worker.demo.tiny.recipes import FULL_SIZE_MODELS, TINY_MODELS, TinyModel
from worker.engine.devices import engine_settings
from worker.engine.install import Runtime
from worker.engine.install.machine import DeviceFlags
from worker.errors import ConfigError, WorkerError
from worker.models.catalog.model_selection import custom_of, select_from_cache, store_of
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.process.file_lock import in_use
from worker.setup.card import MachineFacts, machine_facts
from worker.units import GIB, listed
from worker.workflows.request import ServedModel

#: Models that are built where the owner has none, by their Horde name.
SUBSTITUTES = ("Tiny SD1.5", "Tiny SDXL")
FULL_SIZE = ("Full SD1.5", "Full SDXL", "Full Flux Schnell")
#: Families measured at most: each costs its share of the time.
MOST_SUBJECTS = 4
SHOWN_NAMES = 3


def benchmark(
    *,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    minutes: Annotated[float, typer.Option("--minutes", min=0.2, max=120, help="Time for everything.")] = 5,
    apply: Annotated[bool, typer.Option("--apply", help="Write what is proposed into the settings file.")] = False,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Measure with random weights of real sizes (12 to 40 GB of disk).")
    ] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Use no card at all.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure what the card can do, in minutes, and propose settings."""
    logs.set_up(None, console_level="ERROR")
    loaded = settings_or_defaults(config, from_environment=from_environment)
    file = config or Path(FILE_NAME)
    if apply and (from_environment or not file.exists()):
        raise ConfigError(
            "There is no settings file to write to.", remedy="Run `horde-bridge setup` first, or leave out --apply."
        )
    set_up_installed()
    runtime = Runtime.locate()
    machine = machine_facts(runtime.accelerator)
    if cpu:
        machine = MachineFacts(None, machine.ram)
    settings = loaded.data
    _refuse_beside_others(workers_folder(runtime.folder, loaded.environment))
    who, where = settings.dreamer_name, settings.horde_url
    home = worker_folder(runtime.folder, loaded.environment, name=who, horde_url=where)
    with only_one(who, where, home=home), in_use(runtime.users):
        try:
            findings = asyncio.run(
                _measure(loaded, runtime, machine, within_s=minutes * 60, full_size=full_size, cpu=cpu)
            )
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.stderr.write("\nStopped. No setting was changed.\n")
            raise typer.Exit(130) from None
    proposals = propose(findings, machine, settings)
    changed = {each.key: each.value for each in proposals if each.changes}
    kept = change_settings(file, changed) if apply and changed else None
    if as_json:
        answer_json(_as_json(findings, machine, proposals, applied=bool(apply and changed), kept=kept))
    else:
        _show(findings, machine, proposals)
        if changed and apply:
            answer(f"Written: {file}. As it was before: {kept}.")
        elif changed:
            answer("`horde-bridge benchmark --apply` writes this into the settings.")


def _refuse_beside_others(base: Path) -> None:
    """Two users of one card would measure each other; `only_one` knows who was started with -n by another name."""
    if running := running_workers(base):
        raise WorkerError(
            f"A worker named {running[0].name!r} runs on this machine already, and two users of one card would measure "
            "each other.",
            remedy="Run `horde-bridge finish` first.",
        )


async def _measure(
    loaded: LoadedConfig, runtime: Runtime, machine: MachineFacts, *, within_s: float, full_size: bool, cpu: bool
) -> Findings:
    device = devices_for(loaded, runtime, DeviceFlags(cpu=cpu))[0]
    subjects, models, store, comfyui, largest = await _models(loaded, runtime, full_size=full_size)
    config = loaded.data
    require_engine(config, runtime)

    def studio(number: int) -> Studio:
        (engine,) = engine_settings(
            config.model_copy(update={"max_threads": 1, "device_settings": (), "post_process_job_overlap": False}),
            replace(runtime, comfyui=comfyui),
            devices=(device,),
            model_paths=store.model_paths(),
            folder=Path(scratch, f"engines-{number}"),
            logs=Path(scratch, f"logs-{number}"),
            memory_bytes=psutil.virtual_memory().total,
            largest_model_bytes=largest,
        )
        return Studio(engine, models, library_of(config))

    folder = tempfile.TemporaryDirectory(prefix="horde-bridge-benchmark-", ignore_cleanup_errors=True)
    with folder as scratch, _progress() as tell:
        return await measure(subjects, machine, studio, tell, within_s=within_s)


async def _models(
    loaded: LoadedConfig, runtime: Runtime, *, full_size: bool
) -> tuple[tuple[Subject, ...], Callable[[str], ServedModel | None], Store, Path, int]:
    """The owner's models that are here, one of each family; generated ones where there are none."""
    config, root = loaded.data, models_root(loaded.data, loaded.environment)
    custom = custom_of(config, loaded.environment)
    records = select_from_cache(config, root, custom).records
    store = store_of(config, root, custom)
    if not full_size:
        served = [found for record in records if isinstance(found := store.served(record), ServedModel)]
        if served:
            by_name = {model.name: model for model in served}
            largest = max((record.size or UNKNOWN_MODEL_BYTES for record in records), default=UNKNOWN_MODEL_BYTES)
            return _subjects(served), by_name.get, store, runtime.comfyui, largest
    chosen: Sequence[TinyModel] = [
        model for model in (*FULL_SIZE_MODELS, *TINY_MODELS) if model.name in (FULL_SIZE if full_size else SUBSTITUTES)
    ]
    sys.stderr.write(
        "Models of random weights are made first, in real sizes.\n" if full_size
        else "No model of yours is here yet; tiny ones with random weights stand in, whose speed says nothing.\n"
    )  # fmt: skip
    files = {file.name for model in chosen for file in model.files}
    await tinies.build(runtime, files, tell=lambda _: None, full_size=full_size)
    generated = tinies.GeneratedModels.of(runtime, full_size=full_size)
    store = Store(tinies.models_folder(generated.folder))
    installed = InstalledModels(store, tinies.records(chosen))
    built = [model for name in installed.names() if (model := installed.model(name))]
    subjects = tuple(replace(each, real=full_size) for each in _subjects(built))
    return subjects, installed.model, store, generated.comfyui, 17 * GIB if full_size else GIB


def _subjects(served: Sequence[ServedModel]) -> tuple[Subject, ...]:
    """One model of each family; the others are as fast."""
    families: dict[Any, list[str]] = {}
    for model in served:
        if not model.inpainting:
            families.setdefault(model.family, []).append(model.name)
    return tuple(Subject(names[0], family, tuple(names)) for family, names in list(families.items())[:MOST_SUBJECTS])


@contextlib.contextmanager
def _progress() -> Iterator[Tell]:
    """Where the benchmark is: a bar on a terminal, else a line for each picture."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _tell_plainly
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        task = progress.add_task("starting the engine", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, completed=share, description=what or "done")

        yield tell


def _tell_plainly(what: str, _share: float) -> None:
    if what:
        sys.stderr.write(f"{what} …\n")


def _show(findings: Findings, machine: MachineFacts, proposals: Sequence[Proposal]) -> None:
    answer(f"{machine}.")
    rows = [_demand_row(each) for each in demands(findings)]
    if rows:
        asked = (f"MPS/s (≥ {LEAST_MPS})", f"kudos/h (≥ {LEAST_KUDOS_PER_HOUR})")
        answer_table(("model", "size", "30 steps", *asked, "memory"), rows)
    failed = [each for each in findings.measured if not each.made]
    for each in failed:
        answer(f"{each.shot}: {each.end.value}{f' ({each.why})' if each.why else ''}")
    if findings.cut_short:
        answer("The time was over before everything was tried; --minutes gives it more.")
    real = any(subject.real for subject in findings.subjects)
    shown = [each for each in proposals if real or each.changes]
    if shown:
        answer_table(("setting", "now", "proposed", "because"), map(_proposal_row, shown))
    if left := [f"{each.key} {_shown(each.now)}" for each in proposals if each not in shown]:
        # Of tiny models nothing follows for or against them.
        answer(f"Not measured, and left as they are: {', '.join(left)}.")
    if real and not any(each.changes for each in proposals):
        answer("The settings are as they should be.")


def _proposal_row(each: Proposal) -> tuple[str, ...]:
    return each.key, _shown(each.now), _shown(each.value) if each.changes else "as it is", each.why


def _demand_row(each: Demand) -> tuple[str, ...]:
    if not each.real:
        return each.model, each.size, f"{each.seconds:.1f} s", "says nothing", "says nothing", ""
    mark = "" if each.fast_enough else " too slow"
    earned = "" if each.earns_enough else " too little"
    return (
        each.model,
        each.size,
        f"{each.seconds:.1f} s",
        f"{each.mps:.2f}{mark}",
        f"about {each.kudos_per_hour:,.0f}{earned}",
        f"{each.memory / GIB:.1f} GiB" if each.memory else "not told",
    )


def _shown(value: Any) -> str:
    return listed(value, SHOWN_NAMES) if isinstance(value, (list, tuple)) else in_yaml(value)


def _as_json(
    findings: Findings, machine: MachineFacts, proposals: Sequence[Proposal], *, applied: bool, kept: Path | None
) -> dict[str, Any]:
    return {
        "machine": str(machine),
        "measured": [
            {
                "model": each.shot.model,
                "family": each.shot.family.value,
                "width": each.shot.width,
                "height": each.shot.height,
                "batch": each.shot.batch,
                "end": each.end.value,
                "seconds": round(each.seconds, 3),
                "load_s": round(each.load_s, 3),
                "mps": round(each.megapixelsteps_per_s, 3),
                "memory_bytes": each.memory,
                "why": each.why,
            }
            for each in findings.measured
        ],
        "demands": {"mps": LEAST_MPS, "kudos_per_hour": LEAST_KUDOS_PER_HOUR},
        "models": [asdict(each) | {"kudos_is": "an estimate"} for each in demands(findings)],
        "together": findings.together,
        "cut_short": findings.cut_short,
        "real_models": any(subject.real for subject in findings.subjects),
        "proposals": [
            {"key": each.key, "now": each.now, "value": each.value, "changes": each.changes, "why": each.why}
            for each in proposals
        ],
        "applied": applied,
        "kept": str(kept) if kept else None,
    }
