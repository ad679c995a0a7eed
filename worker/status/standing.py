"""What the Horde thinks of this worker and of its owner: looked up now and then, and followed pop by pop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

from loguru import logger

from worker.aio import first_of
from worker.bounded_dict import BoundedDict
from worker.errors import HordeError, HordeMaintenance, HordeUnreachable
from worker.horde.client import HordeClient
from worker.horde.messages import Message
from worker.jobs.job import PopEvent
from worker.status.request_summary import LONGEST_NAME
from worker.status.snapshot import MessageView, Standing
from worker.untrusted.text import quote, visible

#: Seconds between two look-ups of account and worker.
LOOK_EVERY_S = 300.0
#: Messages remembered as told, those of them that are shown, and characters of one: they are meant to be read.
MOST_TOLD, MOST_MESSAGES, LONGEST_MESSAGE = 200, 50, 4000


@dataclass(eq=False)
class StandingWatch:
    """Subscribe `note` to the pops; `run` is its life. `current` may be read at any time."""

    horde: HordeClient
    name: Callable[[], str]
    wall: Callable[[], float] = time.time
    current: Standing = field(default_factory=Standing, init=False)
    _messages: BoundedDict[str, MessageView] = field(default_factory=lambda: BoundedDict(MOST_TOLD), init=False)
    _look: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def note(self, event: PopEvent) -> None:
        """What a pop says beside its job."""
        maintenance = self.current.maintenance
        if isinstance(event.error, HordeMaintenance):
            maintenance = True
        elif event.answer is not None:
            # In maintenance its owner's jobs come all the same; an empty answer comes out of it alone.
            maintenance = maintenance and bool(event.answer.job_ids)
            for message in event.answer.messages:
                self._hear(message)
        self.current = replace(
            self.current,
            reachable=not isinstance(event.error, HordeUnreachable),
            maintenance=maintenance,
            messages=tuple(islice(reversed(self._messages.values()), MOST_MESSAGES)),
        )

    def _hear(self, message: Message) -> None:
        """Each comes with every pop, and is told once."""
        key = message.id or message.message
        if key not in self._messages:
            words = quote(message.message, longest=LONGEST_MESSAGE)
            logger.bind(action="message").info("Message from the Horde: {}", words)
            self._messages[key] = MessageView(words, self.wall())

    def look_soon(self) -> None:
        """Look up account and worker without delay."""
        self._look.set()

    async def run(self) -> None:
        while True:
            self._look.clear()
            await self._look_up()
            await first_of(self._look, within_s=LOOK_EVERY_S)

    async def _look_up(self) -> None:
        try:
            user = await self.horde.find_user()
            worker = await self.horde.worker_by_name(self.name())
        except HordeError as error:
            logger.debug("The account cannot be looked up: {}", error)
            return
        self.current = replace(
            self.current,
            asked_at=self.wall(),
            account=visible(user.username, longest=LONGEST_NAME),
            account_kudos=user.kudos,
            evaluating_kudos=user.evaluating_kudos,
            trusted=user.trusted,
        )
        if worker is not None:
            self.current = replace(
                self.current,
                worker_id=visible(worker.id, longest=LONGEST_NAME),
                team=visible(worker.team.name, longest=LONGEST_NAME),
                maintenance=worker.maintenance_mode,
                paused=worker.paused,
                worker_kudos=worker.kudos_rewards,
            )
