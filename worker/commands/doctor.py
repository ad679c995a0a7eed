"""`doctor`: everything a worker needs, looked at one by one, with what to do about what is missing."""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import psutil
import typer

from worker.app.build import AGENT
from worker.commands.options import AsJson, ConfigFile, FromEnvironment, load_settings
from worker.config.key_types import ANONYMOUS_KEY
from worker.config.load import LoadedConfig
from worker.config.paths import models_root
from worker.engine.cards import find_cards
from worker.engine.install import Runtime, check
from worker.engine.install.machine import Accelerator, Host, detect_card, free_bytes
from worker.errors import WorkerError
from worker.horde.client import HordeClient

GIB = 1024**3
#: Free disk below which models of today don't fit, and free memory below which an engine hardly starts.
LEAST_DISK_BYTES, LEAST_MEMORY_BYTES = 20 * GIB, 6 * GIB


class Verdict(str, Enum):
    GOOD = "good"
    #: the worker runs, but less well than it could
    DOUBTFUL = "doubtful"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.verdict.value:<8}  {self.subject}: {self.text}" + (f" → {self.remedy}" if self.remedy else "")


def doctor(
    *,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask the Horde nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at everything the worker needs, and say what to do about what is missing."""
    findings = list(examine(config, from_environment=from_environment, offline=offline))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))  # noqa: T201 - the command's answer
    else:
        for finding in findings:
            print(finding)  # noqa: T201 - the command's answer
    if any(finding.verdict is Verdict.BAD for finding in findings):
        raise typer.Exit(1)


def examine(config: Path | None, *, from_environment: bool, offline: bool) -> Iterator[Finding]:
    """All findings, in the order in which an owner would mend them."""
    runtime = Runtime.locate()
    yield _runtime()
    yield _card(runtime)
    yield _memory()
    try:
        loaded = load_settings(config, from_environment=from_environment, warn=False)
    except WorkerError as error:
        yield Finding("settings", Verdict.BAD, error.message, error.remedy)
        return
    yield _settings(loaded)
    yield _disk(models_root(loaded.data, loaded.environment))
    if not offline:
        yield from asyncio.run(_horde(loaded))


def _runtime() -> Finding:
    if missing := check():
        return Finding("runtime", Verdict.BAD, "; ".join(missing), "run update-runtime")
    return Finding("runtime", Verdict.GOOD, "complete")


def _card(runtime: Runtime) -> Finding:
    found, installed = detect_card(Host()).accelerator, runtime.accelerator
    if installed is None:
        return Finding("card", Verdict.BAD, f"{found.value} found, no torch installed", "run update-runtime")
    if found is not installed and found is not Accelerator.CPU:
        return Finding(
            "card", Verdict.DOUBTFUL, f"{found.value} found, but torch is for {installed.value}",
            f"run update-runtime --{found.value}",
        )  # fmt: skip
    if cards := find_cards(installed, os.environ):
        return Finding("card", Verdict.GOOD, ", ".join(card.name for card in cards))
    return Finding("card", Verdict.DOUBTFUL, "none: the CPU takes minutes for a picture")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < LEAST_MEMORY_BYTES:
        return Finding("memory", Verdict.DOUBTFUL, text, "end other programs, or add swap")
    return Finding("memory", Verdict.GOOD, text)


def _settings(loaded: LoadedConfig) -> Finding:
    if loaded.data.api_key.get_secret_value() == ANONYMOUS_KEY:
        return Finding(
            "settings", Verdict.BAD, "api_key is the anonymous one, with which nobody may serve",
            "get your own at https://aihorde.net/register",
        )  # fmt: skip
    if loaded.warnings:
        return Finding("settings", Verdict.DOUBTFUL, " ".join(loaded.warnings))
    return Finding("settings", Verdict.GOOD, loaded.source)


def _disk(root: Path) -> Finding:
    free = free_bytes(root)
    text = f"{free / GIB:.0f} GiB free for models in {root}"
    if free < LEAST_DISK_BYTES:
        return Finding("disk", Verdict.DOUBTFUL, text, "make room, or set cache_home to another disk")
    return Finding("disk", Verdict.GOOD, text)


async def _horde(loaded: LoadedConfig) -> list[Finding]:
    """What the Horde says of the account and the worker."""
    settings = loaded.data
    findings: list[Finding] = []
    try:
        key = settings.api_key.get_secret_value()
        async with contextlib.aclosing(HordeClient(settings.horde_url, key, agent=AGENT)) as horde:
            user = await horde.find_user()
            findings.append(Finding("account", Verdict.GOOD, f"{user.username}, {user.kudos:.0f} kudos"))
            worker = await horde.worker_by_name(settings.dreamer_name)
            if worker is not None and worker.maintenance_mode:
                findings.append(
                    Finding("worker", Verdict.DOUBTFUL, "in maintenance mode", "horde-bridge maintenance off")
                )
            elif worker is not None and worker.paused:
                findings.append(Finding("worker", Verdict.BAD, "paused by a moderator", "ask on the Horde's Discord"))
            else:
                findings.append(Finding("worker", Verdict.GOOD, settings.dreamer_name))
    except WorkerError as error:
        findings.append(Finding("Horde", Verdict.BAD, error.message, error.remedy))
    return findings
