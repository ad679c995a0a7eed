"""`engine …`: ComfyUIs side by side, one of them in use."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from worker.app.build import library_of
from worker.commands.options import AsJson, ConfigFile, set_up_installed, settings_or_defaults
from worker.commands.output import answer, answer_json, answer_table
from worker.config.schema import BridgeData
from worker.demo.engine_trial import run_trial
from worker.engine.install.cache import thin_out_after_removal
from worker.engine.install.environments import make_engine_environment
from worker.engine.install.layout import Runtime
from worker.engine.install.shell import Screen
from worker.engine.versions.shelf import Shelf, disk_bytes, running
from worker.engine.versions.sources import fetch, read_source
from worker.engine.versions.state import INSTALLED, Verdict
from worker.engine.versions.trial_report import Compared, TrialReport
from worker.errors import EngineChangeRefused, RuntimeMissing
from worker.process.child import child_environment
from worker.untrusted.text import visible

app = typer.Typer(help="ComfyUIs side by side: add one, try it, use it, go back.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="As `engine list` shows it.")]


#: What runs any ComfyUI, by the names that are imported.
PACKAGES = ("torch", "torchvision", "numpy", "PIL", "aiohttp", "yaml", "safetensors", "transformers")
#: Prints what of them a Python lacks, which is quicker than to import them.
LACKS = (
    "import importlib.util, sys; print('lacks', *(each for each in sys.argv[1:] if not importlib.util.find_spec(each)))"
)


def _refuse_unfit(python: Path) -> None:
    """Raises EngineChangeRefused for what is no Python, or one without the packages that any ComfyUI needs."""
    try:
        done = subprocess.run(
            [python, "-c", LACKS, *PACKAGES], check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=30,
            env=child_environment({}),
        )  # fmt: skip
        said = done.stdout.decode(errors="replace").split()
    except (OSError, subprocess.TimeoutExpired):
        said = []
    if said[:1] != ["lacks"]:
        raise EngineChangeRefused(f"There is no Python {python}.", remedy="Name the program itself, or leave it out.")
    if lacking := said[1:]:
        raise EngineChangeRefused(
            f"{python} lacks {', '.join(lacking)}, without which no ComfyUI runs.",
            remedy="Install PyTorch and the tree's requirements.txt there, or leave --python out to have it set up.",
        )


@app.command("list")
def list_(*, as_json: AsJson = False, config: ConfigFile = None) -> None:
    """The engines that are here, which is in use and what was found of each."""
    shelf = Shelf(Runtime.locate())
    state, own = shelf.state, settings_or_defaults(config).data.comfyui_path
    in_use = shelf.in_use.name
    rows = []
    for engine in shelf.engines():
        verdict = state.verdicts.get(engine.name)
        rows.append(
            {
                "name": engine.name,
                "comfyui": engine.version,
                "in_use": engine.name == in_use and own is None,
                "running": bool(running(engine)),
                "bytes": disk_bytes(engine.comfyui.parent) if engine.name != INSTALLED else None,
                "origin": engine.origin,
                "trial": None if verdict is None else {"takes": verdict.takes, "summary": verdict.summary},
            }
        )
    if as_json:
        answer_json(
            {
                "engines": rows,
                "previous": state.previous,
                "since": state.since,
                "reason": state.reason,
                "comfyui_path": None if own is None else str(own),
            }
        )
        return
    answer_table(
        ("engine", "ComfyUI", "", "disk", "from", "trial"),
        (
            (
                str(row["name"]),
                str(row["comfyui"] or "?"),
                "in use" if row["in_use"] else "still runs" if row["running"] else "",
                "" if row["bytes"] is None else _size(int(str(row["bytes"]))),
                str(row["origin"]),
                _short(state.verdicts.get(str(row["name"]))),
            )
            for row in rows
        ),
    )
    if own is not None:
        answer(f"comfyui_path is set: the worker runs your own ComfyUI in {own}, and none of these.")
    elif state.current != in_use:
        answer(f"{state.current} should be in use, but is gone or broken; {in_use} takes its place.")
    elif state.since:
        why = f": {state.reason}" if state.reason else f"; {state.previous} was before."
        answer(f"{in_use} has been in use since {_when(state.since)}{why}")


@app.command()
def add(
    source: Annotated[str, typer.Argument(metavar="PATH|URL@REF", help="A ComfyUI folder, or where to fetch one.")],
    *,
    name: Annotated[str | None, typer.Option("--name", help="What to call it; its version if not given.")] = None,
    python: Annotated[
        Path | None, typer.Option("--python", help="The Python that runs it; without it, one is set up.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put another ComfyUI beside the one in use, with its own packages. Nothing in service is touched."""
    wanted = read_source(source)
    runtime = _installed()
    shelf, screen, began = Shelf(runtime), Screen(), time.monotonic()
    if python is not None:
        _refuse_unfit(python)

    def make(folder: Path) -> None:
        screen.say(f"Taking the tree from {wanted.spelled}")
        fetch(wanted, folder / "comfyui", folder / "scratch", screen.say)
        if python is None:
            screen.say("Setting up its packages, torch among them; files that are here already are not fetched again.")
            make_engine_environment(folder / "comfyui", folder / "environment", screen=screen)

    own = None if python is None else python.absolute()
    engine = shelf.add(name or wanted.suggested_name, wanted.spelled, make, python=own)
    size = disk_bytes(engine.comfyui.parent)
    if as_json:
        answer_json({"name": engine.name, "comfyui": engine.version, "bytes": size, "origin": engine.origin})
        return
    answer(
        f"{engine.name} is here: ComfyUI {engine.version or 'of unknown version'}, {_size(size)}, made in "
        f"{time.monotonic() - began:.0f} s.\nTry it: horde-bridge engine try {engine.name}"
    )


@app.command("try")
def try_(
    name: Name,
    *,
    config: ConfigFile = None,
    only: Annotated[
        str, typer.Option("--only", metavar="TEXT", help="Only the jobs whose name contains this; not remembered.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Compare an engine with the one in use: templates, pictures, seconds. Nothing is changed."""
    runtime = _installed()
    shelf = Shelf(runtime)
    engine, in_use = shelf.need(name), shelf.in_use
    if engine.name == in_use.name:
        raise EngineChangeRefused(f"{name} is in use itself.", remedy="Name another: horde-bridge engine list.")
    screen = Screen()
    library = library_of(settings_or_defaults(config).data)
    report = run_trial(runtime, engine, in_use, library, screen.say, only=only)
    verdict = Verdict(report.at, report.against, report.takes, report.summary)
    if not only:
        shelf.change(lambda state: state.with_verdict(name, verdict))
    if as_json:
        sys.stdout.write(f"{json.dumps(report.as_json())}\n")
    else:
        answer("\n".join(_told(report)))
    if not report.takes:
        raise EngineChangeRefused(
            f"{name} is not equal to {in_use.name}: {report.summary}", remedy="Nothing was changed."
        )


@app.command()
def use(
    name: Name,
    *,
    config: ConfigFile = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Although its trial found something against it.")] = False,
) -> None:
    """Run this engine from its next start on. The one before is kept, and taken again if this one fails."""
    shelf = Shelf(Runtime.locate())
    engine, state = shelf.need(name), shelf.state
    verdict = state.verdicts.get(name)
    if verdict and not verdict.takes and not anyway:
        raise EngineChangeRefused(
            f"The trial of {name} found: {verdict.summary}",
            remedy=f"Use it all the same with `engine use {name} --anyway`.",
        )
    if state.current == name:
        answer(f"{name} is in use already.")
        return
    shelf.use(name)
    said = f"{name} (ComfyUI {engine.version or '?'}) is used from the next start of an engine on; "
    said += f"{state.current} is kept. A running worker changes over as its engines become idle."
    if not verdict and name != INSTALLED:
        said += f"\nIt was not tried: `horde-bridge engine try {name}` compares it with another."
    answer(said + _own(settings_or_defaults(config).data))


@app.command()
def rollback(*, config: ConfigFile = None) -> None:
    """Go back to the engine that was used before."""
    shelf = Shelf(Runtime.locate())
    state = shelf.state
    if state.current == state.previous:
        raise EngineChangeRefused(f"There is no engine before {state.current}.", remedy="See horde-bridge engine list.")
    target = shelf.find(state.previous) or shelf.installed
    shelf.use(target.name, reason="the owner went back")
    answer(
        f"{target.name} is used again from the next start of an engine on." + _own(settings_or_defaults(config).data)
    )


@app.command()
def remove(name: Name) -> None:
    """Remove an engine that is not in use."""
    runtime = Runtime.locate()
    freed = Shelf(runtime).remove(name)
    thin_out_after_removal(runtime, Screen())
    answer(f"{name} is removed: {_size(freed)} are free again.")


def _installed() -> Runtime:
    """Where everything lies. Raises RuntimeMissing where there is no engine to fall back to."""
    set_up_installed()
    runtime = Runtime.locate()
    if not Shelf(runtime).installed.stands:
        raise RuntimeMissing("The installed engine is not there.", remedy="Run update-runtime first.")
    return runtime


def _own(config: BridgeData) -> str:
    if config.comfyui_path is None:
        return ""
    return f"\ncomfyui_path is set, and goes first: the worker runs {config.comfyui_path} until you take that key out."


def _told(report: TrialReport) -> Iterator[str]:
    """The report for people."""
    yield f"{report.engine} (ComfyUI {report.version}) beside {report.against} (ComfyUI {report.against_version})"
    if report.error:
        yield report.error
        return
    yield f"templates: {report.templates_kept} work on both, {len(report.templates_lost)} are lost"
    for template, reasons in sorted(report.templates_lost.items()):
        yield f"  lost: {template}: {'; '.join(reasons)}"
    if report.templates_gained:
        yield f"  new: {', '.join(report.templates_gained)}"
    if report.families_gained:
        yield f"families that become possible: {', '.join(report.families_gained)}"
    equal = sum(each.is_equal for each in report.pictures)
    yield f"pictures: {equal} of {len(report.pictures)} are equal bit for bit"
    yield from filter(None, map(_told_of_picture, report.pictures))
    if report.untried:
        yield f"  not tried, since the tiny models don't fit this version: {', '.join(report.untried)}"
    if report.times_as_long:
        yield f"time: {report.times_as_long:.2f} times as long (median over the jobs)"
    yield f"→ {'It can take the place of ' + report.against if report.takes else 'Against it: ' + report.summary}"


def _told_of_picture(each: Compared) -> str:
    """What sets a job apart on the two engines; nothing where it is the same on both."""
    if each.is_rounded or each.differs:
        return f"  {each.job}: differs by up to {each.largest_difference} of 255, {each.mean_difference} on average"
    if each.is_lost:
        return f"  {each.job}: failed: {each.error_now}"
    return f"  {each.job}: works on this one alone" if each.error_before else ""


def _short(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not tried"
    return f"{'may be used' if verdict.takes else 'not equal'} ({_when(verdict.at)}): {visible(verdict.summary)}"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004 - a gigabyte
