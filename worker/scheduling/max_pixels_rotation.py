"""Up to which size pops ask, and what the Horde goes by meanwhile. Pure.

The Horde takes the models from each pop, but stores the limit of size only now and then, and goes by what it has
stored. So each size has its turn for minutes, and a pop names only models that can do whatever may come.

Times are seconds of a monotonic clock.
"""

from collections.abc import Collection

#: The Horde stores a limit at most once in 30 s, so that what it stored is no older at a pop; a pop may take its time
#: on the way there.
STORED_S = 40.0
#: How long a size has its turn: while it brings jobs, and while it does not (half of which the Horde may not know it).
KEEP_S, PATIENCE_S = 600.0, 80.0


class Sizes:
    """Whose turn it is, and what was named lately."""

    def __init__(self) -> None:
        self._named: dict[int, float] = {}
        self._most = 0
        self._since = float("-inf")
        #: whose turn it was last
        self.current = 0

    def turn(self, sizes: Collection[int], most: int, now: float, *, fruitful: bool) -> None:
        """Let the next of the sizes that are of use now (one at least) have its turn, if the time has come.

        The largest begins, also when the owner's limit, `most`, is another. `fruitful`: the last pop brought a job.
        """
        if most != self._most:
            self._most, self._since, self.current = most, float("-inf"), 0
        is_over = now - self._since >= (KEEP_S if fruitful else PATIENCE_S)
        if is_over or self.current > max(sizes):
            following = max((size for size in sizes if size < self.current), default=max(sizes))
            if following != self.current:
                self.current, self._since = following, now

    def reach(self, size: int, now: float) -> int:
        """The largest that may come if a pop names this size now: any that was named lately may be in force."""
        return max((size, *(named for named, at in self._named.items() if now - at < STORED_S)))

    def name(self, size: int, now: float) -> None:
        """A pop goes out with this size."""
        self._named = {named: at for named, at in self._named.items() if now - at < STORED_S} | {size: now}
