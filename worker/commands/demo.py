"""`demo`: the whole job on this machine."""

import os
from pathlib import Path
from typing import Annotated

import typer

from worker import logs
from worker.commands.options import (
    LOGS_FOLDER,
    AsJson,
    LogFormatOption,
    Quiet,
    Verbose,
    complete_runtime,
    wants_live_view,
)
from worker.commands.output import answer_json
from worker.errors import WorkerError
from worker.network_variables import check_network_variables
from worker.process.file_lock import in_use


def demo(
    *,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=1000, help="How many jobs to do.")] = 3,
    slots: Annotated[int, typer.Option("--slots", min=1, max=16, help="How many engines do them.")] = 1,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("demo-out"),
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
    log_format: LogFormatOption = logs.LogFormat.TEXT,
) -> None:
    """Do the whole job on this machine: a Horde of its own, tiny models, the real engine."""
    logs.set_up(LOGS_FOLDER, console_level=logs.level_name(verbose, quiet), console_format=log_format)
    check_network_variables(os.environ)
    from worker.demo.run import run_demo  # noqa: PLC0415 - the demo's Horde is of no use to the other commands

    at_bottom = wants_live_view(quiet, log_format)
    try:
        runtime = complete_runtime()
        with in_use(runtime.users):
            arrived = run_demo(runtime, jobs=jobs, slots=slots, out=out, as_json=as_json, at_bottom=at_bottom)
    except WorkerError:
        if as_json:
            answer_json({"ok": False, "jobs": []})
        raise
    if not arrived:
        raise WorkerError("Not every job of the demo arrived as asked.", remedy="See logs/bridge.log and bridge_1.log.")
