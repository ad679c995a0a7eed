"""`config …`: look at the settings without starting anything."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from worker.commands.options import LOGS_FOLDER, ConfigFile, FromEnvironment, load_settings
from worker.commands.output import answer
from worker.commands.preflight import Rating, check_machine, check_models, check_settings
from worker.config.export import config_show, config_to_env, ignored_keys
from worker.engine.install import Runtime
from worker.engine.install.machine import DeviceFlags

app = typer.Typer(help="Look at the settings in bridgeData.yaml.", no_args_is_help=True)

_LABELS = {Rating.BAD: "error", Rating.DOUBTFUL: "warning"}


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="The same as --config FILE.")] = None,
    *,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
) -> None:
    """Say everything that is wrong or doubtful in the settings; nothing is downloaded."""
    if file is not None and config is not None and file != config:
        raise typer.BadParameter("it names another file than the one given without it", param_hint="--config")
    loaded = load_settings(file or config, from_environment=from_environment, warn=False)
    findings = [
        *check_settings(loaded),
        # Whether the engine is set up is no question of the settings.
        *(
            finding
            for finding in check_machine(loaded, Runtime.locate(), DeviceFlags(), LOGS_FOLDER)
            if finding.subject != "engine" or loaded.data.comfyui_path or loaded.data.comfyui_python
        ),
        *check_models(loaded, offline=True),
    ]
    for finding in findings:
        if finding.rating in _LABELS:
            answer(f"{_LABELS[finding.rating]}: {finding.text}{f' {finding.remedy}' if finding.remedy else ''}")
    for note in ignored_keys(loaded.data):
        answer(f"note: {note}")
    if any(finding.rating is Rating.BAD for finding in findings):
        answer(f"{loaded.source} cannot be used as it is.")
        raise typer.Exit(1)
    answer(f"{loaded.source} can be used.")


@app.command("show")
def show(*, config: ConfigFile = None, from_environment: FromEnvironment = False) -> None:
    """Every setting in force; secrets are masked."""
    for line in config_show(load_settings(config, from_environment=from_environment, warn=False).data).splitlines():
        answer(line)


@app.command("to-env")
def to_env(*, config: ConfigFile = None) -> None:
    """The settings as AIWORKER_* lines, for containers; the API key is among them."""
    sys.stdout.write(config_to_env(load_settings(config, warn=False).data))
