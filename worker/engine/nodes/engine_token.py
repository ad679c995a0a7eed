"""A bearer token on every route and the websocket, so that no other program on this machine can use the engine."""

import hmac
import os

from aiohttp import web
from server import PromptServer

#: `worker.engine.process` makes a token for each start and passes it here; without it (an owner who loads the pack by
#: hand) nothing is required.
TOKEN_VARIABLE = "HORDE_ENGINE_TOKEN"  # noqa: S105 - the name of the variable, not a secret


def install() -> None:
    """Put the check before all other middleware; ComfyUI freezes the list only when it starts to listen."""
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if not token:
        return
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def require_token(request, handler):
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected):
            return web.json_response({"error": "unauthorized"}, status=401)
        return await handler(request)

    PromptServer.instance.app.middlewares.insert(0, require_token)
