"""`status`, `pause`, `resume`, `finish`: the running worker of this folder, from outside."""

import os
import re
from typing import Annotated

import typer

from worker.app.state_dir import workers_folder
from worker.clock import duration
from worker.commands.options import AsJson, RunningName
from worker.commands.output import answer, answer_json
from worker.console.status import status_lines
from worker.dashboard.whereabouts import Whereabouts, ask, running_workers
from worker.dashboard.whereabouts import link as link_of
from worker.engine.install import Runtime
from worker.errors import WorkerError
from worker.status.as_json import read_snapshot

#: Seconds of each unit that a span can be written with; further letters as in "minutes" and "hrs" are taken.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
PART = r"(\d{1,6}(?:[.,]\d{1,3})?)(?![\d.,])\s*((?:s|m|h|d)[a-z]{0,6})?"
SPAN = re.compile(rf"(?:{PART}\s*)+")

For = Annotated[
    str | None, typer.Option("--for", metavar="SPAN", help="So long: 90s, 10m, 2h. If not given, until `resume`.")
]


def status(
    *,
    as_json: AsJson = False,
    name: RunningName = None,
    link: Annotated[bool, typer.Option("--link", help="Show the link that opens the dashboard, and no more.")] = False,
) -> None:
    """Show what the running worker does and earns, and why nothing comes if so."""
    if link:
        worker = find_worker(name)
        if not worker.page:
            raise WorkerError(
                f"The dashboard of {worker.name!r} is turned off (`dashboard: false`), so no link leads to it.",
                remedy="Set `dashboard: true` in its settings and start it again; `horde-bridge status` works without.",
            )
        answer(link_of(worker.url, "/", worker.token))
        return
    found = ask(find_worker(name), "GET", "/api/status")
    if as_json:
        answer_json(found)
    else:
        for line in status_lines(read_snapshot(found)):
            answer(line)


def pause(
    span: Annotated[str | None, typer.Argument(metavar="[SPAN]", help="The same as --for SPAN.")] = None,
    *,
    for_: For = None,
    name: RunningName = None,
) -> None:
    """Ask for no new jobs; those under way are finished. The worker goes on running."""
    if span and for_:
        raise typer.BadParameter("the span is given twice.", param_hint="--for")
    written = for_ if span is None else span
    seconds = None if written is None else span_s(written)
    worker = find_worker(name)
    ask(worker, "POST", "/api/pause", {} if seconds is None else {"for_s": seconds})
    until = "until `horde-bridge resume`" if seconds is None else f"for {duration(seconds)}"
    answer(f"{worker.name} is paused {until}; jobs under way are finished.")


def resume(*, name: RunningName = None) -> None:
    """End a pause."""
    worker = find_worker(name)
    ask(worker, "POST", "/api/resume")
    answer(f"{worker.name} asks for jobs again.")


def finish(*, name: RunningName = None) -> None:
    """Finish the jobs under way, then end the worker."""
    worker = find_worker(name)
    ask(worker, "POST", "/api/finish")
    answer(f"{worker.name} finishes its jobs and ends.")


def span_s(text: str) -> float:
    """Seconds of a span as people write it. Raises BadParameter."""
    written = text.strip().lower()
    seconds = sum(
        float(number.replace(",", ".")) * UNITS[unit[:1] or "s"] for number, unit in re.findall(PART, written)
    )
    if not SPAN.fullmatch(written) or not seconds:
        raise typer.BadParameter(f"{text!r} is no span of time; write it as 90s, 10m, 2h or 1d.", param_hint="--for")
    return seconds


def find_worker(name: str | None) -> Whereabouts:
    """The worker that runs from this installation, of that name if one is given. Raises WorkerError."""
    folder = workers_folder(Runtime.locate().folder, os.environ)
    running = running_workers(folder)
    wanted = [worker for worker in running if name is None or worker.name == name]
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(repr(worker.name) for worker in wanted or running)
    if wanted:
        raise WorkerError(f"{len(wanted)} workers run here: {names}.", remedy="Name one of them with -n NAME.")
    if running:
        raise WorkerError(f"No worker named {name!r} runs here.", remedy=f"These do: {names}.")
    raise WorkerError(
        "No worker of this installation runs.",
        remedy=f"Start it with `horde-bridge`. (Looked for in {folder}.)",
    )
