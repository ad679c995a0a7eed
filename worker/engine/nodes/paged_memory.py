"""Tells the worker how much of the card this engine holds where it pages weights in and out (dynamic VRAM).

Those weights lie outside of what torch counts, and so of /system_stats; only their pager knows. Without this the worker
would take an engine's own weights for another program's.
"""

import logging

import comfy
from aiohttp import web
from server import PromptServer

logger = logging.getLogger(__name__)


def paged_bytes():
    """Bytes of the card that an engine which pages weights holds in all, torch's own included; 0 where none are paged.

    None where weights are paged and their pager does not tell: what is ours can't be known then.
    """
    if not getattr(getattr(comfy, "memory_management", None), "aimdo_enabled", False):
        return 0
    try:
        from comfy_aimdo import control

        return int(control.get_total_vram_usage())
    except Exception:
        logger.debug("the pager does not tell what it holds", exc_info=True)
        return None


def add_memory_route():
    """GET /horde/memory, for the worker's look at cards that other programs use."""

    @PromptServer.instance.routes.get("/horde/memory")
    async def memory(_request):
        return web.json_response({"paged": paged_bytes()})
