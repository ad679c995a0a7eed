"""`takeover`: use the settings and models of a folder of horde-worker-reGen."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from worker.commands.output import answer
from worker.config.load import FILE_NAME
from worker.config.write_back import PRIVATE, write_settings
from worker.errors import ConfigError
from worker.owner_path import owner_path
from worker.setup.takeover import DOTENV, described, plan_takeover
from worker.setup.terminal import agreed, is_terminal


def takeover(
    folder: Annotated[Path, typer.Argument(help="reGen's folder, which holds its bridgeData.yaml.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Use the settings and models of a reGen folder; says first what it will do, and changes nothing there."""
    folder = owner_path(folder).absolute()
    here = Path.cwd()
    if folder.resolve() == here.resolve():
        raise ConfigError(f"{folder} is this folder.", remedy="Its bridgeData.yaml is in use here already.")
    plan = plan_takeover(folder)
    for line in described(plan, folder, here):
        answer(f"- {line}")
    if not yes:
        if not is_terminal():
            raise ConfigError("Nothing was done: there is no terminal to ask on.", remedy="Say --yes.")
        try:
            do_it = agreed("Do it?", default=False)
        except EOFError:
            do_it = False
        if not do_it:
            answer("Nothing was done.")
            raise typer.Exit(1)
    kept = write_settings(here / FILE_NAME, plan.text, mode=PRIVATE)
    if plan.dotenv and not (here / DOTENV).exists():
        shutil.copyfile(plan.dotenv, here / DOTENV)
        if os.name == "posix":
            (here / DOTENV).chmod(PRIVATE)
    answer(f"Written: {here / FILE_NAME}." + (f" As it was before: {kept}." if kept else ""))
    answer("Next: `horde-bridge config check` and `horde-bridge doctor`; then stop reGen and start `horde-bridge`.")
