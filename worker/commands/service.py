"""`service install|remove|show`: the worker started by the system."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from worker.commands.options import AsJson, ConfigFile, FromEnvironment, ServiceName, WorkerName
from worker.commands.output import answer, answer_json
from worker.config.load import FILE_NAME
from worker.engine.install.layout import ROOT, is_checkout
from worker.errors import ConfigError
from worker.service.manager import State, manager_of
from worker.service.order import STOP_LIMIT_S, Order

app = typer.Typer(help="Let the system start the worker: at login, or with the machine.", no_args_is_help=True)

#: Variables that decide where things lie, which cards are used and how; the system's own environment has none of them.
_CARRIED = (
    "AIWORKER_RUNTIME_DIR", "AIWORKER_STATE_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY",
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION",
    "MIOPEN_FIND_MODE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF",
)  # fmt: skip
_Boot = Annotated[bool, typer.Option("--boot/--login", help="Start with the machine, or at your login.")]


@app.command("install")
def install(
    *,
    boot: _Boot = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start it now, or not yet.")] = True,
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    name: WorkerName = None,
    as_json: AsJson = False,
) -> None:
    """Install the service, or bring it up to date; it runs the worker of this folder."""
    if not from_environment and not (config or Path(FILE_NAME)).is_file():
        raise ConfigError(
            f"There is no {config or FILE_NAME} for the service to run with.", remedy="Run `horde-bridge setup` first."
        )
    state = manager_of(_order(config, name, from_environment=from_environment, boot=boot)).install(start=start)
    if as_json:
        answer_json(asdict(state))
        return
    when = "with the machine" if state.at_boot else "at your login"
    answer(f"{state.label} starts {when}{', and runs now' if state.active else ''}.")
    if state.file:
        scope = "" if state.file.startswith("/etc/") else "--user "
        answer(f"Look at it: journalctl {scope}-u {state.label} -f")
        answer(f"Stop it: systemctl {scope}stop {state.label} (it finishes its jobs, {STOP_LIMIT_S} s at most)")
        if not state.at_boot:
            answer("It ends when you log out. --boot lets it run from the machine's start on (lingering).")


@app.command("remove")
def remove(*, name: ServiceName = None, as_json: AsJson = False) -> None:
    """Stop the service and remove it; settings, models and the worker itself stay."""
    order = _order(None, name, from_environment=False, boot=False)
    removed = manager_of(order).remove()
    if as_json:
        answer_json({"label": order.label, "removed": removed})
    else:
        answer(f"{order.label} is removed." if removed else f"There is no service {order.label}.")


@app.command("show")
def show(*, name: ServiceName = None, as_json: AsJson = False) -> None:
    """How the service stands, and what it consists of."""
    state = state_of(name)
    if as_json:
        answer_json(asdict(state))
    elif not state.installed:
        answer(f"There is no service {state.label}. `horde-bridge service install` makes one.")
    else:
        runs = "" if state.active is None else "runs; it " if state.active else "does not run; it "
        starts = "with the machine" if state.at_boot else "at login"
        answer(f"{state.label} {runs}{f'starts {starts}' if state.enabled else 'is switched off'}.")
        answer(f"{state.file}:\n\n{state.text}" if state.file else state.text)


def state_of(name: str | None = None) -> State:
    """How the service of this folder's worker stands."""
    return manager_of(_order(None, name, from_environment=False, boot=False)).state()


def is_for(state: State, launcher: Path) -> bool:
    """Whether a service starts this launcher, and not that of a folder which was moved."""
    shown = state.text.replace("%%", "%").replace("\\\\", "\\").replace("&amp;", "&").replace("$$", "$")
    return str(launcher) in shown.replace('\\"', '"')


def launcher_of(root: Path) -> Path:
    """What the system is to start. An installed package has a command instead of a launcher."""
    if is_checkout(root):
        return root / ("horde-bridge.cmd" if sys.platform == "win32" else "horde-bridge.sh")
    return Path(sys.executable).with_name("horde-bridge.exe" if sys.platform == "win32" else "horde-bridge")


def _order(config: Path | None, name: str | None, *, from_environment: bool, boot: bool) -> Order:
    arguments = ["-e"] if from_environment else []
    if config is not None:
        arguments += ["--config", str(config.absolute())]
    if name:
        arguments += ["-n", name]
    # A unit is read by everybody, so a proxy's password stays out of it.
    environment = tuple((key, value) for key in _CARRIED if (value := os.environ.get(key)) and "@" not in value)
    return Order(
        launcher_of(ROOT), Path.cwd(), tuple(arguments), environment, name or "", at_boot=boot, user=_somebody()
    )  # fmt: skip


def _somebody() -> str:
    """Root makes services of the system, for the account that the folder belongs to; anybody else one of his own."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return ""
    import pwd  # noqa: PLC0415 - not on Windows

    owner = Path.cwd().stat().st_uid
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)
