"""Key and name held against the Horde while their owner still sits at the keyboard."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, TypeVar

from worker.errors import HordeRefused, HordeUnreachable
from worker.horde.account import check_account
from worker.horde.backoff import RetryPolicy
from worker.horde.client import HordeClient
from worker.horde.limits import Limits
from worker.horde.messages import UserDetails

#: Somebody waits for the answer: two tries, and 15 seconds for everything.
LIMITS: Final = Limits(connect_s=5.0, lookup_s=8.0, lookup_retry=RetryPolicy(tries=2, within_s=12.0))
WAIT_S: Final = 15.0

Answer = TypeVar("Answer")


class NameState(str, Enum):
    """Whose a worker's name is."""

    FREE = "free"
    YOURS = "yours"


def owner_of(horde_url: str, key: str, *, agent: str) -> UserDetails:
    """The account of a key. Raises HordeError."""
    return _ask(horde_url, key, agent, HordeClient.find_user)


def name_state(horde_url: str, key: str, name: str, *, agent: str) -> NameState:
    """Whose the name is. Raises HordeRefused where another account has it, and HordeError."""
    try:
        account = _ask(horde_url, key, agent, lambda horde: check_account(horde, name))
    except HordeRefused as error:
        if "another account" not in error.message:
            raise
        raise HordeRefused(
            f"The name {name!r} is taken: another account has it.", remedy="Choose another name."
        ) from error
    return NameState.FREE if account.worker is None else NameState.YOURS


def _ask(horde_url: str, key: str, agent: str, what: Callable[[HordeClient], Awaitable[Answer]]) -> Answer:
    async def limited() -> Answer:
        async with contextlib.aclosing(HordeClient(horde_url, key, agent=agent, limits=LIMITS)) as horde:
            try:
                return await asyncio.wait_for(what(horde), WAIT_S)
            except asyncio.TimeoutError:
                raise HordeUnreachable(f"The Horde did not answer within {WAIT_S:.0f} s.") from None

    return asyncio.run(limited())
