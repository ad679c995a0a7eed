"""A worker for the AI Horde on stock ComfyUI.

The way of a job is the way through the rooms: `horde` pops it, `jobs` carries it, `workflows` translates it into
a ComfyUI graph, `engine` renders it, `safety` checks the images, `horde` delivers them. `app` puts the rooms
together, `cli` is the door, `demo` brings a Horde and models of its own.
"""

import os
import sys

__version__ = "0.1.0"

# loguru reads these when it is imported, and a wrong one is a traceback before the worker can say a word.
for _name in [name for name in os.environ if name.startswith("LOGURU_")]:
    del os.environ[_name]

# Its own command line, which httpx imports where it can, is half of what importing httpx costs.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
