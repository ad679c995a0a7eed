"""A mapping that can't grow without end, for what is learned or told over days."""

from collections import UserDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(UserDict[K, V]):
    """A dict of at most `limit` entries: the one written least recently makes room for the next."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        # Put back at the end: the order of the dict is the order of writing.
        self.data.pop(key, None)
        self.data[key] = value
        if len(self.data) > self._limit:
            del self.data[next(iter(self.data))]
