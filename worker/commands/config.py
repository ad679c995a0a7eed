"""`config …`: the settings looked at; nothing is run."""

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.options import ConfigFile, FromEnvironment, load_settings
from worker.config.export import config_show, config_to_env, ignored_keys

app = typer.Typer(help="Look at the settings in bridgeData.yaml.", no_args_is_help=True)


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="bridgeData.yaml if not given.")] = None,
    *,
    from_environment: FromEnvironment = False,
) -> None:
    """Say everything that is wrong or doubtful in the settings."""
    loaded = load_settings(file, from_environment=from_environment, warn=False)
    for warning in loaded.warnings:
        print(f"warning: {warning}")  # noqa: T201 - the command's answer
    for note in ignored_keys(loaded.data):
        print(f"note: {note}")  # noqa: T201 - the command's answer
    print(f"{loaded.source} can be used.")  # noqa: T201 - the command's answer


@app.command("show")
def show(*, config: ConfigFile = None, from_environment: FromEnvironment = False) -> None:
    """Every setting in force; secrets are masked."""
    print(config_show(load_settings(config, from_environment=from_environment, warn=False).data))  # noqa: T201


@app.command("to-env")
def to_env(*, config: ConfigFile = None) -> None:
    """The settings as AIWORKER_* lines, for containers; the API key is among them."""
    print(config_to_env(load_settings(config, warn=False).data), end="")  # noqa: T201 - the command's answer
