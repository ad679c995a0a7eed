"""Tells another worker's page about this one, so that an owner sees all of his workers in one place."""

import asyncio

import httpx
from loguru import logger

from worker.dashboard.security import ANNOUNCE
from worker.dashboard.sessions import announcing_token
from worker.dashboard.workers import EVERY_S, announcement
from worker.status.board import StatusBoard

#: For one announcement, in seconds.
TIMEOUT_S = 10.0


async def announce(status: StatusBoard, to: str, token: str, *, port: int, scheme: str, is_open: bool) -> None:
    """Tell the page at `to`, whose token this is, every half minute; until cancelled.

    The token itself is not sent, but what is made from it. `port` and `scheme` are those of this worker's own page,
    0 for none; `is_open` whether other machines reach it.
    """
    address = f"{to.rstrip('/')}{ANNOUNCE}"
    headers = {"authorization": f"Bearer {announcing_token(token)}"}
    said: str | None = None
    async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers) as client:
        while True:
            why = await _once(
                client, address, {**announcement(status), "port": port, "scheme": scheme, "open": is_open}
            )
            if why != said:
                if why:
                    logger.bind(action="not_announced").warning(
                        "The dashboard at {} does not take this worker: {}. It is tried again every {:.0f} s.",
                        to,
                        why,
                        EVERY_S,
                    )
                else:
                    logger.bind(action="announced").info("The dashboard at {} shows this worker too.", to)
                said = why
            await asyncio.sleep(EVERY_S)


async def _once(client: httpx.AsyncClient, address: str, told: dict[str, object]) -> str:
    """Why it was not taken; empty where it was. Of the answer nothing but its code is read."""
    try:
        async with client.stream("POST", address, json=told) as answer:
            code = answer.status_code
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    if code == httpx.codes.NO_CONTENT:
        return ""
    return {401: "its token is another", 421: "it is not served under this name", 409: "it lists too many"}.get(
        code, f"it answered {code}"
    )
