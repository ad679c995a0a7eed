"""`update`: a newer version looked for, fetched, taken; the old one kept, and taken again."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from worker import __version__
from worker.commands.options import AsJson, settings_or_defaults
from worker.commands.output import answer, answer_json
from worker.config.schema import BridgeData
from worker.engine.install.layout import ROOT, is_checkout
from worker.errors import ConfigError, WorkerError
from worker.horde.agent import PROJECT_URL
from worker.network_variables import check_network_variables
from worker.process.file_lock import is_in_use
from worker.setup.terminal import agreed, is_terminal
from worker.update.fetch import Tell
from worker.update.releases import CHANNELS, Offer
from worker.update.stage import Staged, forget_staged, look, roll_back, stage
from worker.update.switch import FOLDER, on_trial, users

#: A switch moves folders on one disk, or a clone forward.
SWITCH_LIMIT_S = 180.0
_SWITCH = (
    "import sys; sys.path.insert(0, sys.argv[1]); from worker.update.switch import main; sys.exit(main(sys.argv[2:]))"
)


def update(
    *,
    check: Annotated[bool, typer.Option("--check", help="Only tell whether there is a newer version.")] = False,
    channel: Annotated[
        str | None, typer.Option("--channel", help="stable or beta; update_channel if not given.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Take the version before again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a newer version of the worker; the old one is kept."""
    if channel not in {None, *CHANNELS}:
        raise typer.BadParameter(f"{channel!r} is neither stable nor beta.", param_hint="--channel")
    root = ROOT
    if not is_checkout(root):
        raise ConfigError(
            "This worker is an installed package, which its installer updates.",
            # No name for an index: nothing of the project is on PyPI, where anybody may take it.
            remedy=f"Give the wheel of a newer version ({PROJECT_URL}/releases) to pip, pipx or uv, as this one was.",
        )
    if rollback:
        version = roll_back(root)
        _end(_take(root, version), {"version": version, "current": __version__}, as_json=as_json)
        return
    settings = _settings()
    check_network_variables(os.environ)
    chosen = channel or settings.update_channel
    offer = asyncio.run(look(root, source=settings.update_source, channel=chosen))
    if offer is None or check:
        _tell_offer(offer, chosen, as_json=as_json)
        return
    if not yes and not is_terminal():
        raise ConfigError(
            f"Version {offer.version} is there, and there is no terminal to ask on.", remedy="Use --yes, or --check."
        )
    staged = _stage(root, offer)
    if not as_json:
        _tell_staged(staged)
    if not yes and not _wants(offer):
        forget_staged(root)
        raise typer.Exit(1)
    told = {"version": offer.version, "current": __version__, "changes": staged.changes, "settings": staged.settings}
    _end(_take(root, offer.version), told, as_json=as_json)


def _settings() -> BridgeData:
    """The owner's; a broken file is no reason not to update."""
    try:
        return settings_or_defaults(None).data
    except WorkerError:
        return BridgeData()


def _tell_offer(offer: Offer | None, channel: str, *, as_json: bool) -> None:
    if as_json:
        answer_json({"current": __version__, "channel": channel, "available": offer.version if offer else None})
    elif offer is None:
        answer(f"{__version__} is the newest version of the channel {channel}.")
    else:
        answer(
            f"Version {offer.version} is there{f' since {offer.date}' if offer.date else ''}; this is {__version__}."
        )
        if not offer.commit:
            for note in offer.notes:
                answer(f"  {note}")
        answer("`horde-bridge update` takes it.")


def _stage(root: Path, offer: Offer) -> Staged:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"fetching {offer.version}", total=None)
        tell: Tell = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
        return asyncio.run(stage(root, offer, tell))


def _tell_staged(staged: Staged) -> None:
    answer(f"New in {staged.offer.version}, beside {__version__}:")
    for line in staged.changes or ("(the changelog does not say)",):
        answer(line)
    if staged.settings:
        answer("\nYour settings stay as they are. The new version says of them:")
        for line in staged.settings:
            answer(f"- {line}")


def _wants(offer: Offer) -> bool:
    try:
        return agreed(f"\nTake {offer.version} now?", default=True)
    except (EOFError, KeyboardInterrupt):
        return False


def _take(root: Path, version: str) -> str:
    """Switch now, or say when it will be."""
    if is_in_use(users(root)):
        return f"Version {version} lies ready; the worker takes it at its next start (`horde-bridge finish`)."
    command = [sys.executable, "-I", "-c", _SWITCH, str(root / FOLDER / "code"), str(root), "update"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=SWITCH_LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"The switch did not end: {error}", remedy="Start the worker: it goes on with it.") from error
    if done.returncode:
        raise ConfigError(done.stderr.strip().removeprefix("horde-bridge: "), remedy="Then start the worker.")
    return f"{done.stderr.strip()} The next start sets up what it needs and shows whether it serves."


def _end(said: str, told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        answer_json({**told, "taken": on_trial(ROOT) is not None, "text": said})
    else:
        answer(said)
