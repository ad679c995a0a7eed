"""The embedded Horde's queue of requests that have images waiting. Pure state, not locked by itself.

A pop looks at waiting requests only, never at history: richest requester first, oldest request first within one.
"""

from collections.abc import Container, Iterator

from worker.demo.horde.records import QueuedRequest, User


class RequestQueue:
    """Waiting requests by user, each user's in order of arrival."""

    def __init__(self) -> None:
        self._of_user: dict[int, dict[str, QueuedRequest]] = {}
        self._users: dict[int, User] = {}

    def __iter__(self) -> Iterator[QueuedRequest]:
        for requests in self._of_user.values():
            yield from requests.values()

    def add_images(self, request: QueuedRequest, images: int) -> None:
        """`images` more (or, negative, fewer) of a request wait."""
        request.waiting += images
        request.user.waiting += images
        requests = self._of_user.setdefault(request.user.id, {})
        self._users[request.user.id] = request.user
        if request.waiting and not request.given_up:
            requests[request.id] = request
        else:
            requests.pop(request.id, None)

    def withdraw(self, request: QueuedRequest) -> None:
        """None of a request waits any more."""
        self.add_images(request, -request.waiting)

    def give_up(self, request: QueuedRequest) -> None:
        """A request that failed too often is not offered again, though its images still count as waiting."""
        request.given_up = True
        self.add_images(request, 0)

    def in_order(self, preferred: Container[str], *, preferred_only: bool = False) -> Iterator[QueuedRequest]:
        """Requests as a worker is offered them: those of `preferred` usernames first, then by the users' kudos.

        The queue must not change between two steps of the iteration.
        """
        users = sorted(self._users.values(), key=lambda user: (user.username not in preferred, -user.kudos))
        for user in users:
            if preferred_only and user.username not in preferred:
                return
            yield from self._of_user[user.id].values()

    def position(self, request: QueuedRequest) -> int:
        """Its place, from 1; 0 when nothing of it waits."""
        if not request.waiting:
            return 0
        return next((place for place, other in enumerate(self.in_order(()), 1) if other is request), 0)

    def images_before(self, request: QueuedRequest) -> int:
        """Images that wait in this and all requests before it."""
        images = 0
        for other in self.in_order(()):
            images += other.waiting
            if other is request:
                return images
        return 0
