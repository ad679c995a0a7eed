"""Connections to the page, bounded in number and in patience: nobody keeps others out.

uvicorn waits without end for the head of a request, bounds a head only while it is incomplete, and takes any number of
connections. Here a head has to come in time and is looked at in small pieces, each machine has its share, others take
nothing from this machine's, and a reader that takes nothing off its connection loses it. Where a share is used up, the
oldest connection that has shown no token gives way to the new one: the owner's commands and browsers send theirs at
once, so nobody who has none keeps them out by holding connections.
"""

import asyncio
import itertools
import logging
from collections.abc import Collection
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from worker.dashboard.security import VOUCH
from worker.dashboard.sessions import customer, is_this_machine

#: Seconds in which the head of a request must have come, from the first byte or from the connection on.
HEAD_S = 10.0
#: Connections of other machines in all, and of one: a browser makes six, and there may be several behind a proxy.
MOST_CONNECTIONS, MOST_OF_ONE = 200, 48
#: Bytes that are looked at in one step: a whole head in one piece would pass the bound of one that still comes.
STEP_BYTES = 2048
#: Seconds that a reader may leave what was sent to it where it is.
STUCK_S = 20.0
#: Invalid requests are the senders' matter, and would fill the log of whoever is scanned.
_SILENT = logging.getLogger("worker.dashboard.connections")
_SILENT.addHandler(logging.NullHandler())
_SILENT.setLevel(logging.ERROR)
_SILENT.propagate = True
_numbers = itertools.count()


class BoundedConnection(H11Protocol):
    """One connection of uvicorn's server."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = _SILENT
        self._head_timer: asyncio.TimerHandle | None = None
        self._stuck_timer: asyncio.TimerHandle | None = None
        #: see `customer`
        self.whose = ""
        self.number = next(_numbers)
        #: a request on it came with the token, or from a browser that had it
        self.is_owners = False
        self.app_state = {**self.app_state, VOUCH: self._vouch}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Where there are too many, the oldest that has shown no token is closed, or this one if all have."""
        super().connection_made(transport)
        self.whose = customer(self.client[0] if self.client else "")
        self._make_room([each for each in self._all() if each.whose == self.whose], MOST_OF_ONE)
        if not is_this_machine(self.whose):
            self._make_room([each for each in self._all() if not is_this_machine(each.whose)], MOST_CONNECTIONS)
        if not transport.is_closing():
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._stuck_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Waits no longer for a head that has come. A request that comes before the last is answered is not taken."""
        for begin in range(0, len(data), STEP_BYTES):
            if self.transport.is_closing():
                return
            if self._is_answering() and self.conn.their_state is h11.DONE:
                self.transport.abort()
                return
            super().data_received(data[begin : begin + STEP_BYTES])
        if self._is_answering() and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        elif not self._is_answering() and self._head_timer is None:
            self._expect_head()

    def pause_writing(self) -> None:
        """The reader is behind."""
        super().pause_writing()
        if self._stuck_timer is None:
            self._stuck_timer = self.loop.call_later(STUCK_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The reader has caught up."""
        super().resume_writing()
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None

    def _all(self) -> "set[BoundedConnection]":
        """This one among them."""
        return cast("set[BoundedConnection]", self.connections)

    def _make_room(self, crowd: "Collection[BoundedConnection]", most: int) -> None:
        there = [each for each in crowd if not each.transport.is_closing()]
        if len(there) > most:
            strangers = [each for each in there if each is not self and not each.is_owners]
            min(strangers, key=lambda each: each.number, default=self).transport.abort()

    def _vouch(self) -> None:
        self.is_owners = True

    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._is_answering():
            self.transport.abort()
