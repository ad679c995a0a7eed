"""Options that several commands share, and what they all begin with: settings, logs, runtime, workflows, models."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from loguru import logger

from worker import logs
from worker.config.environment import download_tokens
from worker.config.load import FILE_NAME, LoadedConfig, load_config
from worker.console.live_view import live_view_supported
from worker.engine.install import Runtime, check
from worker.engine.install.layout import ROOT, is_checkout
from worker.errors import RuntimeMissing

LOGS_FOLDER = Path("logs")

Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; twice for everything.")]
Quiet = Annotated[int, typer.Option("-q", "--quiet", count=True, help="Say less; twice for errors only.")]
LogFormatOption = Annotated[
    logs.LogFormat,
    typer.Option(
        "--log-format", envvar="AIWORKER_LOG_FORMAT", case_sensitive=False,
        help="Lines on the terminal for people, or as JSON for a collector of logs.",
    ),
]  # fmt: skip
NoLogging = Annotated[bool, typer.Option("--no-logging", help="Write nothing into the folder logs.")]
FromEnvironment = Annotated[
    bool, typer.Option("-e", "--load-config-from-env-vars", help="Settings from AIWORKER_* variables, not the file.")
]
_NAME_FLAGS = ("-n", "--worker-name")
WorkerName = Annotated[str | None, typer.Option(*_NAME_FLAGS, help="Serve under this name.")]
RunningName = Annotated[str | None, typer.Option(*_NAME_FLAGS, help="The worker of this name, where several run.")]
ServiceName = Annotated[str | None, typer.Option(*_NAME_FLAGS, help="The service of the worker with this name.")]
KnownName = Annotated[
    str | None, typer.Option(*_NAME_FLAGS, help="The worker of this name; that of the settings if not given.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file; bridgeData.yaml if not given.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on standard output, nothing else there.")]
ReferenceFolder = Annotated[Path | None, typer.Option("--reference", help="Folder with the Horde's model lists.")]
PopFile = Annotated[Path, typer.Argument(help="A pop response, or a captured file with one under `pops`.")]


def wants_live_view(quiet: int, log_format: logs.LogFormat) -> bool:
    """Whether the status is kept at the bottom of the terminal."""
    return live_view_supported() and not quiet and log_format is logs.LogFormat.TEXT


def load_settings(
    file: Path | None,
    *,
    from_environment: bool = False,
    name: str | None = None,
    warn: bool = True,
    text: str | None = None,
) -> LoadedConfig:
    """The settings, their secrets kept out of every log line from now on, their warnings said.

    `text`: what the file is to have, in place of what it has.
    """
    overrides: dict[str, Any] = {} if name is None else {"dreamer_name": name}
    loaded = load_config(file, environment=os.environ, from_env=from_environment, overrides=overrides, text=text)
    data = loaded.data
    pages = [each.get_secret_value() for each in (data.dashboard_token, data.dashboard_announce_token) if each]
    logs.redactor.add([data.api_key.get_secret_value(), *download_tokens(data, loaded.environment).values(), *pages])
    if warn:
        for warning in loaded.warnings:
            logger.warning("{}", warning)
    return loaded


def settings_or_defaults(file: Path | None, *, from_environment: bool = False) -> LoadedConfig:
    """The settings; where there is no file and none is named, what counts without one."""
    if file is None and not from_environment and not Path(FILE_NAME).exists():
        from_environment = True
    return load_settings(file, from_environment=from_environment, warn=False)


def set_up_installed() -> None:
    """Set up the engine of an installed wheel where anything is missing; in a repository the launcher does that.

    Progress goes to standard error, since standard output may be read by a program. Raises RuntimeMissing.
    """
    if is_checkout(ROOT) or not check():
        return
    if subprocess.run([sys.executable, "-m", "worker.engine.install"], stdout=sys.stderr, check=False).returncode:
        raise RuntimeMissing("The engine could not be set up.", remedy="See the lines above; then run this again.")


def complete_runtime() -> Runtime:
    """Where everything lies. Raises RuntimeMissing when something is not there."""
    set_up_installed()
    if missing := check():
        raise RuntimeMissing(f"The runtime is incomplete: {'; '.join(missing)}.", remedy="Run update-runtime.")
    return Runtime.locate()
