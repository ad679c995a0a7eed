"""The commands an owner types. Each ends with 0 (done), 1 (failed, with a reason and a remedy) or 2 (wrong usage)."""

import difflib
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from worker import __version__, logs
from worker.commands.output import accept_any_character, answer, complain, hold_standard_streams, mend_terminal_size
from worker.errors import WorkerError

#: Each command, and where it is in worker.commands: a function, or the app of a group. What a command needs is
#: imported when it is asked for: all of it together takes a second.
COMMANDS: Final = {
    "run": "run.run",
    "demo": "demo.demo",
    "setup": "setup.setup",
    "doctor": "doctor.doctor",
    "takeover": "takeover.takeover",
    "benchmark": "benchmark.benchmark",
    "update": "update.update",
    "status": "steer.status",
    "pause": "steer.pause",
    "resume": "steer.resume",
    "finish": "steer.finish",
    "render": "workflows.render",
    "maintenance": "maintenance.app",
    "config": "config.app",
    "service": "service.app",
    "models": "models.app",
    "engine": "engine.app",
    "workflows": "workflows.app",
}

ShowVersion = Annotated[bool, typer.Option("--version", help="Show the version and end.")]

#: What owners type for something that has another name here.
_OTHER_WORDS = {
    "start": "`horde-bridge run` starts the worker",
    "stop": "`horde-bridge finish` ends the worker when its jobs are done; Ctrl+C in its terminal does the same",
    "check": "`horde-bridge config check` checks the settings, `horde-bridge doctor` everything",
    "download": "`horde-bridge models download` fetches the models",
    "install": "update-runtime sets everything up",
    "init": "`horde-bridge setup` writes the settings",
    "upgrade": "`horde-bridge update` takes a newer version",
    "version": "`horde-bridge --version` shows the version",
}


def app_of(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The program with these of its commands."""
    app = typer.Typer(
        name="horde-bridge",
        help="A worker for the AI Horde on stock ComfyUI. Without a command it runs the worker.",
        no_args_is_help=False,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_common)
    for name in names:
        module, _, what = COMMANDS[name].partition(".")
        command = getattr(importlib.import_module(f"worker.commands.{module}"), what)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """`run` is the command if none is given."""
    hold_standard_streams()
    accept_any_character()
    mend_terminal_size()
    logs.set_up(None, console_level="WARNING")
    try:
        arguments = _with_command(sys.argv[1:])
        # Of them all only the help tells that is asked for before any command.
        asked = COMMANDS.keys() & arguments[:1] or (COMMANDS if {"-h", "--help"}.intersection(arguments) else ())
        code = app_of(asked)(arguments, standalone_mode=False, prog_name="horde-bridge")
        sys.stdout.flush()
    except typer.Exit as done:
        code = done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except WorkerError as error:
        complain(str(error))
        code = 1
    except BrokenPipeError:  # the reader has what it wanted, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        complain(_system_error(error))
        code = 1
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # A usage error of click, of which typer has a copy without a public name.
        complain(_usage_error(error))
        code = 2
    sys.exit(code or 0)


def _with_command(arguments: list[str]) -> list[str]:
    """The arguments with `run` before options, and with `help COMMAND` as `COMMAND --help`."""
    if arguments[:1] == ["help"]:
        return [*arguments[1:], "--help"]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        return ["run", *arguments]
    return arguments


def _system_error(error: OSError) -> str:
    try:
        Path.cwd()
    except FileNotFoundError:
        return "The folder that this was started in is gone. Change into one that is there (cd), then try again."
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{logs.io_reason(error)}. {logs.io_remedy(error)}"


def _usage_error(error: Exception) -> str:
    message = str(getattr(error, "format_message", error.__str__)())
    context = getattr(error, "ctx", None)
    if "unexpected extra argument" in message and (later := set(sys.argv[2:]) & COMMANDS.keys()):
        return f"{message}. Write the command {later.pop()} first, and its options after it."
    if "No such command" not in message or context is None:
        return message
    name = message.split("'")[1] if "'" in message else ""
    known = COMMANDS if context.parent is None else getattr(context.command, "commands", ())
    return _no_command(name, known, context.command_path)


def _no_command(name: str, known: Iterable[str], path: str) -> str:
    names = sorted(known)
    if path == "horde-bridge" and name.lower() in _OTHER_WORDS:
        return f"There is no command {name!r}: {_OTHER_WORDS[name.lower()]}."
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"There is no command {name!r}; did you mean `{path} {near[0]}`?"
    return f"There is no command {name!r}. The commands of {path} are: {', '.join(names)}."


def _common(version: ShowVersion = False) -> None:
    if version:
        answer(__version__)
        raise typer.Exit
