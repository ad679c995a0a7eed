"""The command line of the set-up: `python -m worker.engine.install`."""

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from worker.engine.install import uv
from worker.engine.install.builds import DIRECTML_PYTHON_MAX
from worker.engine.install.cache import thin_out
from worker.engine.install.environments import Builder
from worker.engine.install.layout import (
    LOCK_FILE,
    ROOT,
    STATE_FILE,
    Runtime,
    default_runtime_folder,
    environment_python,
    runtime_folder,
)
from worker.engine.install.machine import (
    Accelerator,
    Card,
    Host,
    Interpreter,
    detect_card,
    python_numbers,
    why_not_running,
)
from worker.engine.install.places import concerns_here
from worker.engine.install.plan import Step, plan_for
from worker.engine.install.record import Choices, Part, Record
from worker.engine.install.remedies import remedy_of_error
from worker.engine.install.shell import Screen, Shell, the_only_set_up
from worker.engine.install.steps import carry_out
from worker.engine.install.verify import differences
from worker.engine.launch import kill_with_parent
from worker.errors import ConfigError, RuntimeMissing
from worker.owner_path import owner_path
from worker.process.file_lock import is_in_use

#: Set by the launcher, whose end ends the set-up too.
LAUNCHER = "AIWORKER_LAUNCHER_PID"
#: The exit code by which launchers know that the environments are as the worker that runs needs them.
IN_USE = 3
#: The Pythons that torch, ComfyUI's packages and this project all have builds for.
PYTHON_OLDEST, PYTHON_NEWEST = (3, 10), (3, 13)
#: Options of horde-worker-reGen's script, which have nothing to do here -> why.
FORMER_OPTIONS = {
    "hordelib": "the engine's packages are always those of the lock files",
    "scribe": "this worker serves image jobs only",
}
TITLES = {
    Part.WORKER: "the worker's packages",
    Part.COMFYUI: "ComfyUI",
    Part.ENGINE: "the engine's packages, torch among them",
}


class RuntimeInUse(RuntimeMissing):
    """Raised where a worker runs with what would be replaced."""


def parser() -> argparse.ArgumentParser:
    """The options; README and the launch scripts rely on their names."""
    options = argparse.ArgumentParser(
        prog="update-runtime",
        description="Set up what the worker needs, or repair and update it. A second run with nothing to do takes "
        "less than a second. What is chosen here is remembered for later runs.",
    )
    card = options.add_mutually_exclusive_group()
    for accelerator in Accelerator:
        card.add_argument(
            f"--{accelerator.value}",
            dest="accelerator",
            action="store_const",
            const=accelerator,
            help=f"install torch for {accelerator.name}"
            + (" (without any of these four: for the card that is found)" if accelerator is Accelerator.CPU else ""),
        )
    options.add_argument("--torch-index", metavar="URL", help="take torch from this package index")
    engine = options.add_mutually_exclusive_group()
    engine.add_argument("--comfyui", metavar="PATH", help="use your own ComfyUI in this folder; it is not changed")
    engine.add_argument("--comfyui-git", metavar="URL@REF", help="use this ComfyUI, checked out from git")
    options.add_argument("--comfyui-python", metavar="PATH", help="with --comfyui: the Python that runs it")
    for former in FORMER_OPTIONS:
        options.add_argument(f"--{former}", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--dev", action="store_true", help="install what the tests need, too")
    options.add_argument("--reset", action="store_true", help="forget what was chosen in earlier runs")
    options.add_argument("--repair", action="store_true", help="compare every installed file, and replace what differs")
    options.add_argument("--collect", metavar="FOLDER", help="download all packages to FOLDER, for a machine offline")
    options.add_argument("--check", action="store_true", help="only tell what is missing; exit 1 if anything is")
    options.add_argument("--json", action="store_true", help="print one JSON object on stdout at the end")
    return options


def choose(options: argparse.Namespace, before: Choices) -> Choices:
    """Today's options over earlier choices. Raises RuntimeMissing where they contradict each other."""
    chosen = Choices() if options.reset else before
    given = {
        name: value
        for name in ("accelerator", "torch_index", "comfyui", "comfyui_git", "comfyui_python", "dev")
        if (value := getattr(options, name))
    }
    if options.accelerator not in {None, chosen.accelerator}:
        chosen = dataclasses.replace(chosen, torch_index=None)  # an index is for one kind of card
    if options.comfyui or options.comfyui_git:
        chosen = dataclasses.replace(chosen, comfyui=None, comfyui_git=None, comfyui_python=None)
    for name in ("comfyui", "comfyui_python"):
        if name in given:
            # Not resolved: the Python of an environment is a link, and is known to be one by its place.
            given[name] = os.path.abspath(owner_path(given[name]))  # noqa: PTH100 - see above
    chosen = dataclasses.replace(chosen, **given)
    if chosen.comfyui_python and not chosen.comfyui:
        raise RuntimeMissing(
            "--comfyui-python names the Python of an own ComfyUI.", remedy="Give its folder, too: --comfyui PATH."
        )
    return chosen


def decide_accelerator(chosen: Accelerator | None, before: Accelerator | None, found: Card) -> Accelerator:
    """The owner's word, else the card that is found. A card that was there before may be away for a moment (a driver
    update, a container started without it); that is no reason to throw its torch away.
    """
    if chosen:
        return chosen
    return before if before and found.accelerator is Accelerator.CPU else found.accelerator


def choose_interpreter(
    record: Record, current: Interpreter, environ: Mapping[str, str], accelerator: Accelerator | None = None
) -> Interpreter:
    """The Python for the environments: `PYTHON` (which is running this), else the one they were made with, if it
    still runs and has a build of torch for the accelerator, else the one that is running this.
    """
    if environ.get("PYTHON") or not record.python or not record.python_version or why_not_running(Path(record.python)):
        return current
    if accelerator is Accelerator.DIRECTML and python_numbers(record.python_version) > DIRECTML_PYTHON_MAX:
        return current
    return Interpreter(Path(record.python), record.python_version)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 complete, 1 incomplete or failed with a reason and a remedy on stderr, 2 wrong usage, 3 nothing was
    done since a worker runs with what would be replaced.
    """
    options = parser().parse_args(arguments)
    screen = Screen()
    signal.signal(signal.SIGTERM, _end)
    if LAUNCHER in os.environ:  # never a set-up of its own, which may outlive the shell it was started from
        kill_with_parent()
        if os.name == "posix" and str(os.getppid()) != os.environ[LAUNCHER]:
            return 128 + signal.SIGTERM  # it ended in the meantime
    for former, why in FORMER_OPTIONS.items():
        if getattr(options, former):
            screen.say(f"--{former} has no effect here: {why}.")
    try:
        folder = runtime_folder(ROOT, os.environ)
        refuse_name(folder)
        try:
            if options.collect:
                return _collect(folder, owner_path(options.collect).absolute(), screen)
            return _check(folder, options) if options.check else _set_up(folder, options, screen)
        except OSError as error:
            raise _told(error, folder) from error
    except (RuntimeMissing, ConfigError) as error:
        screen.say(f"ERROR: {error.message}")
        screen.say(f"       {error.remedy}")
        if options.json:
            _print({"ok": False, "error": error.message.strip(), "remedy": error.remedy})
        return IN_USE if isinstance(error, RuntimeInUse) else 1
    except KeyboardInterrupt:
        screen.say("Interrupted. The next run of update-runtime makes good what is unfinished.")
        return 128 + signal.SIGINT


def _told(error: OSError, folder: Path) -> RuntimeMissing:
    """An error of the system, with what to do."""
    place = Path(error.filename or folder)
    if place.is_symlink() and not place.exists():
        return RuntimeMissing(
            f"{place} leads to {place.readlink()}, which is not there.",
            remedy="Mount the disk it is on, or remove the link.",
        )
    no_folder = isinstance(error, (FileExistsError, NotADirectoryError))
    reason = "there is a file where a folder is needed" if no_folder else error.strerror or str(error)
    return RuntimeMissing(
        f"{place}: {reason}.",
        remedy=remedy_of_error(error)
        or "Check the rights to that folder and the free disk, then run update-runtime again.",
    )


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _check(folder: Path, options: argparse.Namespace) -> int:
    record = Record.load(folder / STATE_FILE)
    record = dataclasses.replace(record, choices=choose(options, record.choices))
    missing = list(map(str, plan_for(ROOT, folder, record)))
    if options.json:
        _print({"complete": not missing, "missing": missing})
    else:
        sys.stdout.write("".join(f"{line}\n" for line in missing or ["The runtime is complete."]))
    return 1 if missing else 0


def _collect(folder: Path, wheels: Path, screen: Screen) -> int:
    refuse_foreign(folder)
    with the_only_set_up(folder, screen) as shell:
        interpreter = choose_interpreter(Record.load(folder / STATE_FILE), Interpreter.current(), os.environ)
        refuse_python(interpreter.version)
        screen.say(f"Downloading all packages for Python {interpreter.version} on this system to {wheels}.")
        Builder(shell, interpreter, Card(Accelerator.CPU, "any")).collect(wheels)
    screen.say(f"Carry {wheels} over, and there: AIWORKER_WHEELS=/path/to/{wheels.name} ./update-runtime.sh")
    return 0


def _set_up(folder: Path, options: argparse.Namespace, screen: Screen) -> int:
    began = time.monotonic()
    refuse_foreign(folder)
    with the_only_set_up(folder, screen) as shell:
        before = Record.load(folder / STATE_FILE)
        choices = choose(options, before.choices)
        interpreter = choose_interpreter(before, Interpreter.current(), os.environ, choices.accelerator)
        refuse_python(interpreter.version)
        found = detect_card(Host())
        record = dataclasses.replace(
            before,
            choices=choices,
            accelerator=decide_accelerator(choices.accelerator, before.accelerator, found),
            python=str(interpreter.executable),
            python_version=interpreter.version,
        )
        runtime = Runtime.of(ROOT, folder, record)
        if options.repair:
            record = _without_damaged(runtime, record, shell)
        steps = _with_broken(plan_for(ROOT, folder, record), runtime, record)
        if steps and is_in_use(runtime.users):
            why = "; ".join(map(str, steps))
            raise RuntimeInUse(
                f"A worker runs with what would be replaced ({why}).",
                remedy="End it first (horde-bridge finish); the next start sets up what is new."
                + (" Better give each folder a runtime of its own." if "project folder" in why else ""),
            )
        if steps:
            builder = Builder.of(shell, interpreter, record, found)
            for concern in (*concerns_here(folder), *uv.concerns(folder, os.environ)):
                screen.say(f"NOTE: {concern}")
            card = builder.card
            screen.say(
                f"Setting up {folder} for {card.accelerator.value} ({card.found}), Python {interpreter.version}."
            )
            for number, step in enumerate(steps, 1):
                screen.say(f"[{number}/{len(steps)}] {TITLES[step.part]}: {step.reason}")
                record = carry_out(step, runtime, builder, record)
            thin_out(shell)
        if record != before:
            record.save(runtime.state)
    _finish(runtime, steps, time.monotonic() - began, screen, as_json=options.json)
    return 0


def _with_broken(steps: Sequence[Step], runtime: Runtime, record: Record) -> tuple[Step, ...]:
    """The steps, and one for each environment that stands as it should and whose Python does not run."""
    found = {step.part: step for step in steps}
    pythons = {Part.WORKER: environment_python(runtime.folder / "worker"), Part.ENGINE: runtime.engine_python}
    for part, python in pythons.items():
        if part in record.parts and part not in found and (why := why_not_running(python)):
            found[part] = Step(part, f"its Python does not run ({why})")
    return tuple(found[part] for part in Part if part in found)


def _without_damaged(runtime: Runtime, record: Record, shell: Shell) -> Record:
    """The record without the parts in which anything differs: these are made anew, not from a damaged cache."""
    shell.screen.say("Comparing every installed file; this takes a minute or two.")
    found = list(differences(runtime, record, thorough=True))
    for difference in found:
        shell.screen.say(f"      {difference}")
    if not found:
        shell.screen.say("      Every file is as it was installed.")
        return record
    # The cache shares its files with the environments.
    names = sorted({difference.package.partition(" ")[0] for difference in found})
    uv.run(shell, "cache", "clean", *names, log="uv")
    damaged = {difference.part for difference in found}
    kept = {part: made for part, made in record.parts.items() if part not in damaged}
    return dataclasses.replace(record, parts=kept)


def refuse_foreign(folder: Path) -> None:
    """Raises RuntimeMissing for a folder in use for other things: what is set up anew is removed first."""
    known = any((folder / name).exists() for name in (LOCK_FILE, STATE_FILE))
    if not known and folder != default_runtime_folder(ROOT) and folder.is_dir() and any(folder.iterdir()):
        raise RuntimeMissing(
            f"{folder} is not empty and holds no runtime of the worker.",
            remedy="Set AIWORKER_RUNTIME_DIR to an empty or new folder.",
        )


def refuse_name(folder: Path) -> None:
    """Raises RuntimeMissing for a path that is no text, as old archives unpack one: no file could hold it."""
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise RuntimeMissing(
            f"The name of a folder in {os.fsencode(folder)!r} is not in UTF-8.", remedy="Rename that folder."
        ) from error


def refuse_python(version: str) -> None:
    """Raises RuntimeMissing for a Python that torch or ComfyUI's packages have no builds for."""
    if not PYTHON_OLDEST <= python_numbers(version) <= PYTHON_NEWEST:
        raise RuntimeMissing(
            f"This is Python {version}; the worker needs Python 3.10 to 3.13.",
            remedy="Install one of them and run update-runtime again, with PYTHON set to it if need be.",
        )


def _finish(runtime: Runtime, steps: Sequence[Step], seconds: float, screen: Screen, *, as_json: bool) -> None:
    accelerator = runtime.accelerator.value if runtime.accelerator else ""
    screen.say(f"The runtime is complete ({accelerator}).")
    if as_json:
        _print(
            {
                "ok": True,
                "did": [step.part.value for step in steps],
                "seconds": round(seconds, 1),
                "accelerator": accelerator,
                "worker_python": str(runtime.worker_python),
                "engine_python": str(runtime.engine_python),
                "comfyui": str(runtime.comfyui),
            }
        )


def _print(value: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
