"""`maintenance on|off|show`: the worker out of service, and back."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from worker.commands.options import ConfigFile, FromEnvironment, KnownName, load_settings
from worker.commands.output import answer
from worker.config.schema import BridgeData
from worker.horde.account import switch_maintenance
from worker.horde.agent import AGENT
from worker.horde.client import HordeClient
from worker.network_variables import check_network_variables

app = typer.Typer(
    help="Take the worker out of service on the Horde, or back into it; it may run meanwhile.", no_args_is_help=True
)

Message = Annotated[str, typer.Option("--message", help="Shown to whoever looks the worker up.")]


@app.command("on")
def on(
    *,
    message: Message = "",
    config: ConfigFile = None,
    from_environment: FromEnvironment = False,
    name: KnownName = None,
) -> None:
    """Get the owner's own jobs only from now on."""
    settings = load_settings(config, from_environment=from_environment, name=name, warn=False).data
    _ask(settings, lambda horde: switch_maintenance(horde, settings.dreamer_name, on=True, message=message))
    answer(f"{settings.dreamer_name} is in maintenance mode.")


@app.command("off")
def off(*, config: ConfigFile = None, from_environment: FromEnvironment = False, name: KnownName = None) -> None:
    """Get everybody's jobs again."""
    settings = load_settings(config, from_environment=from_environment, name=name, warn=False).data
    _ask(settings, lambda horde: switch_maintenance(horde, settings.dreamer_name, on=False))
    answer(f"{settings.dreamer_name} is in service.")


@app.command("show")
def show(*, config: ConfigFile = None, from_environment: FromEnvironment = False, name: KnownName = None) -> None:
    """What the Horde says of the worker."""
    settings = load_settings(config, from_environment=from_environment, name=name, warn=False).data

    async def look(horde: HordeClient) -> None:
        worker = await horde.worker_by_name(settings.dreamer_name)
        if worker is None:
            text = "not known to the Horde: it has never asked for a job"
        else:
            states = [
                "online" if worker.online else "not online",
                *(["in maintenance mode"] if worker.maintenance_mode else []),
                *(["paused by a moderator"] if worker.paused else []),
                f"{worker.requests_fulfilled:.0f} jobs done",
                f"{worker.uncompleted_jobs:.0f} not completed",
                f"{worker.kudos_rewards:.0f} kudos",
            ]
            text = ", ".join(states)
        answer(f"{settings.dreamer_name}: {text}.")

    _ask(settings, look)


def _ask(settings: BridgeData, what: Callable[[HordeClient], Awaitable[None]]) -> None:
    check_network_variables(os.environ)

    async def ask() -> None:
        key = settings.api_key.get_secret_value()
        async with contextlib.aclosing(HordeClient(settings.horde_url, key, agent=AGENT)) as horde:
            await what(horde)

    asyncio.run(ask())
