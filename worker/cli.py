"""The commands an owner types. Each ends with 0 (done), 1 (failed, with a reason and a remedy) or 2 (wrong usage)."""

import sys
from typing import Annotated

import typer

from worker import __version__
from worker.commands import config, maintenance, models, workflows
from worker.commands.demo import demo
from worker.commands.doctor import doctor
from worker.commands.run import run
from worker.errors import WorkerError

app = typer.Typer(
    name="horde-bridge",
    help="A worker for the AI Horde on stock ComfyUI. Without a command it runs the worker.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(demo)
app.command()(doctor)
app.command()(workflows.render)
app.add_typer(maintenance.app, name="maintenance")
app.add_typer(config.app, name="config")
app.add_typer(models.app, name="models")
app.add_typer(workflows.app, name="workflows")

ShowVersion = Annotated[bool, typer.Option("--version", help="Show the version and end.")]


def main() -> None:
    """The entry point: `run` is the command when none is named."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("--help", "--version")):
        arguments = ["run", *arguments]
    try:
        code = app(arguments, standalone_mode=False, prog_name="horde-bridge")
    except typer.Exit as done:
        code = done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except WorkerError as error:
        print(f"horde-bridge: {error}", file=sys.stderr)  # noqa: T201 - the command's answer
        code = 1
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # click's usage errors; typer brings a copy of click that has no public name
        print(f"horde-bridge: {error.format_message()}", file=sys.stderr)  # noqa: T201 - the command's answer
        code = 2
    sys.exit(code or 0)


@app.callback(invoke_without_command=True)
def _common(version: ShowVersion = False) -> None:
    if version:
        print(__version__)  # noqa: T201 - the command's answer
        raise typer.Exit


if __name__ == "__main__":
    main()
