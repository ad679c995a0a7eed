"""The settings in force while the worker runs: read them where they are used, each time they are used."""

from collections.abc import Callable

from worker.config.schema import BridgeData

#: Told of a change: the settings before, the settings from now on.
Listener = Callable[[BridgeData, BridgeData], None]


class LiveConfig:
    """Holds the settings, and tells who must do something about a change of them."""

    def __init__(self, data: BridgeData) -> None:
        self._data = data
        self._listeners: list[Listener] = []

    @property
    def data(self) -> BridgeData:
        """The settings as of now."""
        return self._data

    def subscribe(self, listener: Listener) -> None:
        """For what does more than read a key where it needs it; called on the event loop after the change."""
        self._listeners.append(listener)

    def change(self, data: BridgeData) -> None:
        """From now on these settings count."""
        before, self._data = self._data, data
        for listener in self._listeners:
            listener(before, data)
