"""`worker.cli` with the scripted safety checker in the place of horde-safety."""

import os
from pathlib import Path

from worker import cli, compose
from worker.demo.safety import scripted_safety

script = Path(os.environ["SAFETY_SCRIPT"])
compose.safety_settings = lambda *_, home, **__: scripted_safety(home / "safety", script=script)
cli.main()
