"""`worker.cli` with the scripted safety checker in the place of horde-safety; dies where a test wants it to."""

import os
import signal
from functools import partial
from pathlib import Path

from tests.stages import STAGES, at_stage
from worker import cli
from worker.app import build as compose
from worker.demo.engine import SCRIPT_VARIABLE
from worker.demo.safety.settings import scripted_safety
from worker.process import child

# Owners' engines get no variables of others; the scripted one is told by one what to do.
child.NEEDED |= {SCRIPT_VARIABLE}
script = Path(os.environ["SAFETY_SCRIPT"])
compose.safety_settings = lambda *_, home, **__: scripted_safety(home / "safety", script=script)

fatal = Path(os.environ["FATAL_STAGE"])


def die(stage: str) -> None:
    if fatal.exists() and fatal.read_text(encoding="utf-8") == stage:
        os.kill(os.getpid(), signal.SIGKILL)


for each in STAGES:
    at_stage(each, partial(die, each))

cli.main()
