"""`doctor`: check everything a worker needs, and say what to do about what is missing."""

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from worker import logs
from worker.app.engine_watch import own_engine
from worker.commands.options import LOGS_FOLDER, AsJson, ConfigFile, FromEnvironment, load_settings
from worker.commands.output import answer, answer_json
from worker.commands.preflight import (
    Finding,
    Rating,
    bad,
    check_machine,
    check_models,
    check_settings,
    doubtful,
    failed,
    good,
)
from worker.commands.service import is_for, launcher_of, state_of
from worker.config.load import LoadedConfig
from worker.engine.cards import find_cards
from worker.engine.install import Runtime, check
from worker.engine.install.layout import ROOT
from worker.engine.install.machine import (
    KFD,
    Accelerator,
    DeviceFlags,
    Host,
    detect_card,
    how_to_be_let_in,
    why_not_running,
)
from worker.engine.install.places import concerns_here
from worker.engine.install.record import Record
from worker.engine.install.verify import differences
from worker.engine.versions.shelf import Shelf
from worker.errors import WorkerError
from worker.horde.account import check_account
from worker.horde.agent import AGENT
from worker.horde.client import HordeClient
from worker.process.child import child_environment
from worker.system_memory import system_memory
from worker.units import GIB, listed

#: Free memory below which an engine hardly starts.
LEAST_MEMORY_BYTES = 6 * GIB
#: Time for the engine's Python to import torch and look at the cards, in seconds; offline the answer comes within 5 s.
TORCH_TIMEOUT_S, TORCH_TIMEOUT_OFFLINE_S = 30.0, 3.5
#: Packages that differ from the locks and are named.
NAMED_DIFFERENCES = 3
#: Time limit for the Horde's answers, in seconds.
HORDE_TIMEOUT_S = 10.0

_ASK_TORCH = """
import json, torch
cards = range(torch.cuda.device_count())
print(json.dumps([[torch.cuda.get_device_name(card), *torch.cuda.mem_get_info(card)] for card in cards]))
"""


def doctor(
    *,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check everything the worker needs, and say what to do about what is missing."""
    logs.set_up(None, console_level="ERROR")
    findings = list(examine(config, from_environment=from_environment, offline=offline))
    if as_json:
        answer_json(
            [{"subject": f.subject, "verdict": f.rating.value, "text": f.text, "remedy": f.remedy} for f in findings]
        )
    else:
        for finding in findings:
            answer(str(finding))
    if any(finding.rating is Rating.BAD for finding in findings):
        raise typer.Exit(1)


def examine(config: Path | None, *, from_environment: bool, offline: bool) -> Iterator[Finding]:
    """All findings, in the order in which an owner would act on them."""
    began = time.monotonic()
    runtime = Runtime.locate()
    yield _runtime(runtime)
    for concern in concerns_here(runtime.folder):
        yield doubtful("folder", concern)
    try:
        loaded = load_settings(config, from_environment=from_environment, warn=False)
    except WorkerError as error:
        yield from (_card(runtime), _memory(), failed("settings", error))
        return
    python = loaded.data.comfyui_python or Shelf(runtime).runtime_for(own=own_engine(loaded.data)).engine_python
    yield _packages(runtime)
    yield _card(runtime)
    if runtime.accelerator in (Accelerator.CUDA, Accelerator.ROCM) and python.exists():
        limit_s = TORCH_TIMEOUT_OFFLINE_S - (time.monotonic() - began) if offline else TORCH_TIMEOUT_S
        yield _torch(ask_torch(python, max(1.0, limit_s)))
    yield _memory()
    yield from _service()
    found = [*check_settings(loaded), *check_machine(loaded, runtime, DeviceFlags(), LOGS_FOLDER)]
    yield from found or [good("settings", loaded.source)]
    no_network = offline or any(finding.subject == "network" for finding in found)
    yield from check_models(loaded, offline=no_network)
    if not no_network:
        yield from asyncio.run(_horde(loaded))


def _runtime(runtime: Runtime) -> Finding:
    missing = check()
    if not missing and (why := why_not_running(runtime.engine_python)):
        missing = [f"engine: {runtime.engine_python} does not run ({why})"]
    if missing:
        return bad("runtime", "; ".join(missing), "run update-runtime")
    return good("runtime", "complete")


def _packages(runtime: Runtime) -> Finding:
    found = list(differences(runtime, Record.load(runtime.state), thorough=False))
    if not found:
        return good("packages", "as the lock files name them")
    text = listed(found, NAMED_DIFFERENCES, separator="; ")
    return doubtful("packages", text, "run update-runtime --repair")


def _card(runtime: Runtime) -> Finding:
    host = Host()
    found, installed = detect_card(host), runtime.accelerator
    kind = found.accelerator
    if installed is None:
        return bad("card", f"{kind.value} found, no torch installed", "run update-runtime")
    if kind is not installed and kind is not Accelerator.CPU:
        sentence = f"{kind.value} found, but torch is for {installed.value}"
        return doubtful("card", sentence, f"run update-runtime --{kind.value}")
    if installed is Accelerator.ROCM and host.has(KFD) and not host.may_use(KFD):
        return bad("card", f"you may not open {KFD}, so torch sees no card", how_to_be_let_in())
    if cards := find_cards(installed, os.environ):
        return good("card", ", ".join(card.name for card in cards))
    return doubtful("card", f"none, and the CPU takes minutes for an image: {found.found}")


def ask_torch(python: Path, limit_s: float) -> list[tuple[Any, ...]] | str:
    """What the engine's torch sees: name, free and total bytes of each card; or why it does not say.

    With the variables that an engine gets: PYTHONHOME and the like may lead to another torch.
    """
    try:
        done = subprocess.run(
            [python, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=limit_s, check=True,
            stdin=subprocess.DEVNULL, env=child_environment({}),
        )  # fmt: skip
        return [tuple(card) for card in json.loads(done.stdout)]
    except subprocess.TimeoutExpired:
        return f"no answer within {limit_s:.0f} s"
    except subprocess.CalledProcessError as error:
        return (str(error.stderr).strip().splitlines() or ["no reason given"])[-1]
    except (OSError, ValueError) as error:
        return str(error)


def _torch(seen: list[tuple[Any, ...]] | str) -> Finding:
    if isinstance(seen, str):
        return doubtful("torch", f"cannot be asked for cards: {seen}", "see whether the driver works")
    if not seen:
        return bad("torch", "sees no card", "update the driver, or set up anew: update-runtime --reset")
    cards = (f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free" for name, free, total in seen)
    return good("torch", f"sees {'; '.join(cards)}")


def _service() -> Iterator[Finding]:
    """The service of this folder, if there is one."""
    state = state_of()
    if not state.installed:
        return
    if not is_for(state, launcher_of(ROOT)):
        sentence = f"{state.label} starts a worker of another folder"
        yield doubtful("service", sentence, "if this folder was moved: horde-bridge service install")
    elif not state.enabled:
        yield doubtful("service", f"{state.label} is switched off", "horde-bridge service install")
    else:
        when = "with the machine" if state.at_boot else "at login"
        yield good("service", f"{state.label} starts {when}{', and runs' if state.active else ''}")


def _memory() -> Finding:
    memory = system_memory()
    text = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < LEAST_MEMORY_BYTES:
        return doubtful("memory", text, "close other programs, or add swap")
    return good("memory", text)


async def _horde(loaded: LoadedConfig) -> list[Finding]:
    """What the Horde says about the account and the worker."""
    settings = loaded.data
    key = settings.api_key.get_secret_value()
    try:
        async with contextlib.aclosing(HordeClient(settings.horde_url, key, agent=AGENT)) as horde:
            account = await asyncio.wait_for(check_account(horde, settings.dreamer_name), HORDE_TIMEOUT_S)
    except WorkerError as error:
        return [failed("Horde", error)]
    except asyncio.TimeoutError:
        return [bad("Horde", f"no answer from {settings.horde_url}", "check the network, and horde_url")]
    user, worker = account.user, account.worker
    findings = [good("account", f"{user.username}, {user.kudos:.0f} kudos")]
    if worker is not None and worker.maintenance_mode:
        findings.append(doubtful("worker", "in maintenance mode", "horde-bridge maintenance off"))
    elif worker is not None and worker.paused:
        findings.append(bad("worker", "paused by a moderator", "ask on the Horde's Discord"))
    else:
        findings.append(good("worker", settings.dreamer_name))
    return findings
