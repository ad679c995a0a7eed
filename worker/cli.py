"""The commands an owner types. Each ends with 0 (done), 1 (failed, with a reason and a remedy) or 2 (wrong usage)."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from loguru import logger
from rich.console import Console
from rich.table import Table

from worker import __version__, logs
from worker.config.describe import config_show, config_to_env
from worker.config.load import LoadedConfig, load_config
from worker.engine.install import Runtime, check
from worker.errors import ConfigError, RuntimeMissing, WorkerError

LOGS_FOLDER = Path("logs")

app = typer.Typer(
    name="horde-bridge",
    help="A worker for the AI Horde on stock ComfyUI. Without a command it runs the worker.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Look at the settings in bridgeData.yaml.", no_args_is_help=True)
workflows_app = typer.Typer(help="Look at the workflow templates.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(workflows_app, name="workflows")

Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; twice for everything.")]
Quiet = Annotated[int, typer.Option("-q", "--quiet", count=True, help="Say less; twice for errors only.")]
NoLogging = Annotated[bool, typer.Option("--no-logging", help="Write no log files.")]
FromEnvironment = Annotated[
    bool, typer.Option("-e", "--load-config-from-env-vars", help="Settings from AIWORKER_* variables, not the file.")
]
WorkerName = Annotated[str | None, typer.Option("-n", "--worker-name", help="Serve under this name.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file; bridgeData.yaml if not given.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on standard output, nothing else there.")]
ReferenceFolder = Annotated[Path | None, typer.Option("--reference", help="Folder with the Horde's model lists.")]
PopFile = Annotated[Path, typer.Argument(help="A pop response, or a captured file with one under `pops`.")]
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
    except typer.Abort:
        code = 130
    except WorkerError as error:
        code = _fail(error)
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


@app.command()
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
    loaded = _configured(
        config, from_environment=from_environment, name=name, verbose=verbose, quiet=quiet, no_logging=no_logging
    )
    del amd, directml, cpu
    raise ConfigError(
        f"This version has no safety checker yet, and without one no worker serves {loaded.data.horde_url}.",
        remedy="`horde-bridge demo` shows the whole job against a Horde of its own.",
    )


@app.command()
def demo(
    *,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=1000, help="How many jobs to do.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("demo-out"),
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
) -> None:
    """Do the whole job on this machine: a Horde of its own, tiny models, the real engine."""
    logs.set_up(LOGS_FOLDER, console_level=logs.level_name(verbose, quiet))
    from worker.demo.run import run_demo  # noqa: PLC0415 - the demo's Horde is of no use to the other commands

    if not run_demo(_complete_runtime(), jobs=jobs, out=out, as_json=as_json):
        raise WorkerError("Not every job of the demo arrived as asked.", remedy="See logs/bridge.log and bridge_1.log.")


@app.command()
def render(
    job: PopFile,
    *,
    reference: ReferenceFolder = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
) -> None:
    """Print the ComfyUI graph for a job; nothing is run."""
    from worker.jobs.preview import preview, read_pop_file, to_json  # noqa: PLC0415 - see demo

    models = _models(reference, offline=offline)
    print(to_json(preview(read_pop_file(job), models, _library()).graph))  # noqa: T201 - the command's answer


@workflows_app.command("list")
def workflows_list() -> None:
    """Every template and fragment: what it serves, or why it is off."""
    library = _library()
    table = Table("name", "serves", "state", box=None)
    for template in library.templates:
        serves = template.manifest.serves
        families = ", ".join(family.value for family in serves.families) or "every family"
        table.add_row(template.name, f"{families}: {', '.join(mode.value for mode in serves.modes)}", "on")
    for fragment in library.fragments:
        table.add_row(fragment.name, f"adds {fragment.when.value}", "on")
    for name, reason in library.disabled.items():
        table.add_row(name, "", f"off: {reason}")
    Console().print(table)


@workflows_app.command("check")
def workflows_check() -> None:
    """Check every template against the nodes of the pinned ComfyUI; all that is wrong at once."""
    from worker.workflows.audit import audit_library, snapshot  # noqa: PLC0415 - see demo

    library = _library()
    findings = audit_library(library, snapshot())
    wrong = [*library.violations, *(sentence for sentences in findings.values() for sentence in sentences)]
    for sentence in wrong:
        print(sentence)  # noqa: T201 - the command's answer
    if wrong:
        raise typer.Exit(1)
    print(f"{len(library.templates)} templates and {len(library.fragments)} fragments are fine.")  # noqa: T201


@workflows_app.command("explain")
def workflows_explain(job: PopFile, *, reference: ReferenceFolder = None) -> None:
    """Which template serves a job, and why each of the others does not."""
    from worker.jobs.preview import read_pop_file, request_for  # noqa: PLC0415 - see demo
    from worker.workflows.select import explain  # noqa: PLC0415 - see demo

    request = request_for(read_pop_file(job), _models(reference, offline=True))
    table = Table("template", "verdict", box=None)
    taken = False
    for verdict in explain(_library(), request):
        text = "; ".join(verdict.reasons) or ("would serve it too" if taken else "serves it")
        taken = taken or verdict.serves
        table.add_row(verdict.template, text)
    Console().print(table)


@config_app.command("check")
def config_check(
    file: Annotated[Path | None, typer.Argument(help="bridgeData.yaml if not given.")] = None,
    *,
    from_environment: FromEnvironment = False,
) -> None:
    """Say everything that is wrong or doubtful in the settings."""
    loaded = load_config(file, environment=os.environ, from_env=from_environment)
    for warning in loaded.warnings:
        print(f"warning: {warning}")  # noqa: T201 - the command's answer
    print(f"{loaded.source} can be used.")  # noqa: T201 - the command's answer


@config_app.command("show")
def config_show_command(*, config: ConfigFile = None, from_environment: FromEnvironment = False) -> None:
    """Every setting in force; secrets are masked."""
    print(config_show(load_config(config, environment=os.environ, from_env=from_environment).data))  # noqa: T201


@config_app.command("to-env")
def config_to_env_command(*, config: ConfigFile = None) -> None:
    """The settings as AIWORKER_* lines, for containers; the API key is among them."""
    print(config_to_env(load_config(config, environment=os.environ).data), end="")  # noqa: T201


def _configured(
    file: Path | None, *, from_environment: bool, name: str | None, verbose: int, quiet: int, no_logging: bool
) -> LoadedConfig:
    """The settings, with the logs set up and the warnings said."""
    overrides: dict[str, Any] = {} if name is None else {"dreamer_name": name}
    loaded = load_config(file, environment=os.environ, from_env=from_environment, overrides=overrides)
    logs.redactor.add([loaded.data.api_key.get_secret_value()])
    logs.set_up(None if no_logging else LOGS_FOLDER, console_level=logs.level_name(verbose, quiet))
    for warning in loaded.warnings:
        logger.warning("{}", warning)
    return loaded


def _complete_runtime() -> Runtime:
    if missing := check():
        raise RuntimeMissing(f"The runtime is incomplete: {'; '.join(missing)}.", remedy="Run ./update-runtime.sh.")
    return Runtime.locate()


def _library() -> Any:
    from worker.workflows.library import Library  # noqa: PLC0415 - see demo

    return Library.load()


def _models(reference: Path | None, *, offline: bool) -> Any:
    from worker.models.reference import read_cache, read_folder  # noqa: PLC0415 - see demo

    if reference is not None:
        return read_folder(reference, beta=True).images
    del offline  # fetching the lists comes with the models room; until then all is offline
    return read_cache(Runtime.locate().folder / "reference", beta=True).images


def _fail(error: WorkerError) -> int:
    print(f"horde-bridge: {error}", file=sys.stderr)  # noqa: T201 - the command's answer
    return 1


if __name__ == "__main__":
    main()
