"""A mapping that can't grow without end, for what is learned or told over days."""

from collections.abc import Mapping
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(dict[K, V]):
    """A dict of at most `limit` entries: the one written least recently makes room for the next.

    Reading costs what it costs with a dict, for it is done for every model at every pop.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        # Put back at the end: the order of the dict is the order of writing.
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > self._limit:
            del self[next(iter(self))]

    def setdefault(self, key: K, default: V) -> V:
        """Like dict's, within the limit."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, other: Mapping[K, V]) -> None:  # type: ignore[override]  # the one form used
        """Write all entries of another mapping, in its order."""
        for key, value in other.items():
            self[key] = value

    def __ior__(self, other: Any) -> "BoundedDict[K, V]":  # type: ignore[override,misc]  # as `update`
        self.update(other)
        return self
