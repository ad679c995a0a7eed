"""`run`: the worker itself."""

import os
from typing import Annotated

import typer

from worker import logs
from worker.app.build import DeviceFlags, compose
from worker.app.lifecycle import run as run_worker
from worker.app.state_dir import only_one, worker_folder
from worker.commands.options import (
    LOGS_FOLDER,
    ConfigFile,
    FromEnvironment,
    NoLogging,
    Quiet,
    Verbose,
    WorkerName,
    load_settings,
    set_up_installed,
)
from worker.config.load import LoadedConfig
from worker.console.status_view import live_view_supported
from worker.engine.install import Runtime
from worker.network import check_network_variables
from worker.process.orphans import end_orphans


def run(
    *,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
    no_logging: NoLogging = False,
    from_environment: FromEnvironment = False,
    name: WorkerName = None,
    config: ConfigFile = None,
    amd: Annotated[bool, typer.Option("--amd", "--amd-gpu", help="The card is AMD's (normally detected).")] = False,
    directml: Annotated[int | None, typer.Option("--directml", help="Use this DirectML device.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Use no card at all.")] = False,
) -> None:
    """Serve the Horde until stopped with Ctrl+C or SIGTERM."""
    folder, level = None if no_logging else LOGS_FOLDER, logs.level_name(verbose, quiet)
    logs.set_up(folder, console_level=level)

    def reread() -> LoadedConfig:
        return load_settings(config, from_environment=from_environment, name=name, warn=False)

    loaded = load_settings(config, from_environment=from_environment, name=name)
    check_network_variables(os.environ)
    if loaded.data.limited_console_messages and not (verbose or quiet):
        logs.set_up(folder, console_level="SUCCESS")
    flags = DeviceFlags(amd=amd, directml=directml, cpu=cpu)
    set_up_installed()
    runtime = Runtime.locate()
    who, where = loaded.data.dreamer_name, loaded.data.horde_url
    home = worker_folder(runtime.folder, loaded.environment, name=who, horde_url=where)
    # Of a child that fails its last words are wanted, whether or not the owner wants logs.
    children = home if no_logging else LOGS_FOLDER.absolute()
    with only_one(who, where):
        end_orphans(home)
        setup = compose(
            loaded, runtime,
            flags=flags, logs=children, home=home, reread=reread, at_bottom=live_view_supported() and not quiet,
        )  # fmt: skip
        run_worker(setup)
