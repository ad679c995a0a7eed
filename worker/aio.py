"""Structured concurrency of Python 3.11 for every Python this worker runs on."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

if sys.version_info >= (3, 11):
    from asyncio import TaskGroup, timeout, timeout_at
else:  # Python 3.10: the same names from the backports
    from exceptiongroup import BaseExceptionGroup
    from taskgroup import TaskGroup, timeout, timeout_at

__all__ = [
    "SharedTasks",
    "TaskGroup",
    "end_all",
    "first_of",
    "meanwhile",
    "timeout",
    "timeout_at",
    "to_the_end",
    "ungrouped",
]

K = TypeVar("K")
T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await something that must not be left half done, such as closing connections, and so takes a bounded time.

    A caller cancelled meanwhile is told so when it is done.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled and not task.cancelled():
        raise cancelled from task.exception()
    return task.result()


async def end_all(tasks: Collection["asyncio.Future[Any]"]) -> None:
    """Cancel these, and wait until they have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def meanwhile(*work: Awaitable[Any]) -> AsyncIterator[list["asyncio.Future[Any]"]]:
    """Have this under way while the block lasts; what has not ended by then is cancelled."""
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(each) for each in work]
    try:
        yield tasks
    finally:
        await end_all(tasks)


async def first_of(
    *events: asyncio.Event, within_s: float | None = None, beside: Sequence["asyncio.Future[Any]"] = ()
) -> None:
    """Until one of the events is set, a task of those `beside` has ended, which is not touched, or the time is over."""
    async with meanwhile(*(event.wait() for event in events)) as waits:
        await asyncio.wait([*waits, *beside], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)


class SharedTasks(Generic[K, T]):
    """Work that is done once, however many ask for it meanwhile; it goes on when they stop waiting."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[T]] = {}

    async def result(self, key: K, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the one task for `key` returns or raises."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.ensure_future(start())
            task.add_done_callback(partial(self._forget, key))
        return await asyncio.shield(task)

    async def end(self, *, but: Collection[K] = ()) -> None:
        """End all of them, but for these keys."""
        await end_all([task for key, task in self._running.items() if key not in but])

    def _forget(self, key: K, task: "asyncio.Task[T]") -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more, and asyncio would tell of it


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the first error of a task group by itself: for callers who care what happened, not in which task."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group
