"""`run`: the worker itself."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from loguru import logger

from worker import logs
from worker.app.build import compose
from worker.app.lifecycle import run as run_worker
from worker.app.state_dir import claim_log_folder, only_one, worker_folder
from worker.commands.options import (
    LOGS_FOLDER,
    ConfigFile,
    FromEnvironment,
    LogFormatOption,
    NoLogging,
    Quiet,
    Verbose,
    WorkerName,
    load_settings,
    set_up_installed,
    wants_live_view,
)
from worker.commands.patient_stderr import patient_stderr
from worker.commands.preflight import check_machine, check_settings, refuse_bad, unused_card
from worker.commands.setup import offer
from worker.config.load import FILE_NAME, LoadedConfig
from worker.config.schema import BridgeData
from worker.engine.install import Runtime
from worker.engine.install.layout import ROOT, is_checkout
from worker.engine.install.machine import DeviceFlags
from worker.errors import HordeError, HordeRefused
from worker.horde.account import check_account
from worker.horde.agent import AGENT
from worker.horde.client import HordeClient
from worker.network_variables import check_network_variables
from worker.process.file_lock import in_use
from worker.process.orphans import end_orphans
from worker.update.switch import takes_restart, users

#: Time for the Horde to say whether it accepts key and name, in seconds. Without an answer the worker starts anyway.
ACCOUNT_TIMEOUT_S = 3.0
#: Set by the launcher of Windows, which looks for a version that lies ready once.
SWITCHED = "HORDE_BRIDGE_SWITCHED"


def run(
    *,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
    no_logging: NoLogging = False,
    log_format: LogFormatOption = logs.LogFormat.TEXT,
    from_environment: FromEnvironment = False,
    name: WorkerName = None,
    config: ConfigFile = None,
    amd: Annotated[bool, typer.Option("--amd", "--amd-gpu", help="The card is AMD's (normally detected).")] = False,
    directml: Annotated[int | None, typer.Option("--directml", help="Use this DirectML device.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Use no card at all.")] = False,
) -> None:
    """Serve the Horde until stopped with Ctrl+C or SIGTERM."""
    if sum((amd, cpu, directml is not None)) > 1:
        raise typer.BadParameter("only one of --amd, --cpu and --directml can be used")
    level = logs.level_name(verbose, quiet)
    logs.set_up(None, console_level=level, console_format=log_format)

    if not from_environment:
        offer(config or Path(FILE_NAME))

    def reread(text: str | None) -> LoadedConfig:
        found = load_settings(config, from_environment=from_environment, name=name, warn=False, text=text)
        # A file that an editor or a full disk left empty reads as nothing but defaults.
        refuse_bad(check_settings(found))
        return found

    loaded = load_settings(config, from_environment=from_environment, name=name, warn=False)
    check_network_variables(os.environ)
    refuse_bad(check_settings(loaded))
    flags = DeviceFlags(amd=amd, directml=directml, cpu=cpu)
    who, where = loaded.data.dreamer_name, loaded.data.horde_url
    takes_restart(ROOT)  # of a run that was killed before it could
    used = in_use(users(ROOT)) if is_checkout(ROOT) else contextlib.nullcontext()
    home = worker_folder(Runtime.locate().folder, loaded.environment, name=who, horde_url=where)
    with patient_stderr(), only_one(who, where, home=home), used:
        folder = None if no_logging else claim_log_folder(LOGS_FOLDER, who)
        limited = loaded.data.limited_console_messages and not (verbose or quiet)
        logs.set_up(folder, console_level="SUCCESS" if limited else level, console_format=log_format)
        for warning in loaded.warnings:
            logger.warning("{}", warning)
        if folder not in (None, LOGS_FOLDER):
            logger.info("Another worker writes its logs to {}; this one writes to {}.", LOGS_FOLDER, folder)
        asyncio.run(_refuse_account(loaded.data))
        set_up_installed()
        runtime = Runtime.locate()
        refuse_bad(check_machine(loaded, runtime, flags, folder))
        if unused := unused_card(loaded.data, runtime, flags):
            logger.warning("{}", unused)
        end_orphans(home)
        setup = compose(
            loaded, runtime,
            flags=flags,
            # The last words of a failing child are needed even if the owner wants no logs.
            logs=home if folder is None else folder.absolute(),
            home=home, reread=reread, at_bottom=wants_live_view(quiet, log_format),
        )  # fmt: skip
        with in_use(runtime.users):
            run_worker(setup)
    if takes_restart(ROOT):
        start_again()


def start_again() -> None:
    """The launcher in the place of this process: it takes the version that lies ready, and sets up what that needs."""
    logger.info("Starting again with the other version.")
    environment = {name: value for name, value in os.environ.items() if name != SWITCHED}
    if os.name == "nt":
        command = [str(ROOT / "horde-bridge.cmd"), *sys.argv[1:]]
        raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)
    launcher = ROOT / "horde-bridge.sh"
    os.execvpe("bash", ["bash", str(launcher), *sys.argv[1:]], environment)  # noqa: S606 - our own launcher


async def _refuse_account(settings: BridgeData) -> None:
    """Raise HordeRefused if the Horde would accept no worker with this key and name."""
    key = settings.api_key.get_secret_value()
    async with contextlib.aclosing(HordeClient(settings.horde_url, key, agent=settings.bridge_agent or AGENT)) as horde:
        try:
            await asyncio.wait_for(check_account(horde, settings.dreamer_name), ACCOUNT_TIMEOUT_S)
        except HordeRefused:
            raise
        except (HordeError, asyncio.TimeoutError) as error:
            logger.debug("Key and name are not checked, because the Horde does not answer: {}", error)
