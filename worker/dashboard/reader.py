"""The reader of the status that serves it by HTTP, from before the first engine is ready until the last has ended."""

import asyncio
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.config.editing import Editor
from worker.config.live import LiveConfig

if TYPE_CHECKING:
    from worker.status.board import StatusBoard


@dataclass(eq=False)
class Dashboard:
    """Serves the status in the worker's own event loop. Without a free port the worker goes on without it."""

    live: LiveConfig
    #: the worker's folder, where its address and token are kept
    home: Path
    #: changes its settings
    editor: Editor | None = None

    async def __call__(self, status: "StatusBoard") -> None:
        # In a thread: the libraries take a fraction of a second to import.
        server = await asyncio.to_thread(importlib.import_module, "worker.dashboard.server")
        await server.run(status, self.live.data, self.home, self.editor)
