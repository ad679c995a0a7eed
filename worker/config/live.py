"""The settings in force while the worker runs, and what a new reading of the file changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from worker.config.key_types import Effect, in_words, key_doc
from worker.config.schema import BridgeData

#: Characters of a value shown in a message.
SHOWN_LENGTH = 80
#: Called with the settings before and after a change.
Listener = Callable[[BridgeData, BridgeData], None]

_WHEN = {
    Effect.AT_ONCE: "at once",
    Effect.ENGINE_START: "at the next engine start",
    Effect.RESTART: "after a restart of the worker",
    Effect.NONE: "never (the key is ignored)",
}


class LiveConfig:
    """Holds the current settings. Read `data` each time a setting is used, so that changes take effect."""

    def __init__(self, data: BridgeData) -> None:
        self._data = data
        self._listeners: list[Listener] = []

    @property
    def data(self) -> BridgeData:
        """The current settings."""
        return self._data

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` on the event loop after each change; for parts that must act on it."""
        self._listeners.append(listener)

    def change(self, data: BridgeData) -> None:
        """Replace the settings and notify the listeners."""
        before, self._data = self._data, data
        for listener in self._listeners:
            listener(before, data)


@dataclass(frozen=True)
class Change:
    """A key whose value differs between two readings."""

    key: str
    effect: Effect
    before: Any
    after: Any

    def __str__(self) -> str:
        if isinstance(self.before, SecretStr) or isinstance(self.after, SecretStr):
            return self.key
        return f"{self.key} {_shown(self.before)} → {_shown(self.after)}"


def changes(before: BridgeData, after: BridgeData) -> tuple[Change, ...]:
    """Every key with a different value, in schema order."""
    return tuple(
        Change(name, key_doc(field).effect, getattr(before, name), getattr(after, name))
        for name, field in BridgeData.model_fields.items()
        if getattr(before, name) != getattr(after, name)
    )


def in_force(running: BridgeData, wanted: BridgeData) -> BridgeData:
    """`wanted`, with the values of `running` for every key that takes effect only after a restart."""
    kept = {
        name: getattr(running, name)
        for name, field in BridgeData.model_fields.items()
        if key_doc(field).effect is Effect.RESTART
    }
    return wanted.model_copy(update=kept)


def sentences(changed: Sequence[Change]) -> tuple[str, ...]:
    """One sentence for each moment at which some of the changes take effect."""
    return tuple(
        f"{', '.join(map(str, those))}: takes effect {_WHEN[effect]}."
        for effect in Effect
        if (those := [change for change in changed if change.effect is effect])
    )


def _shown(value: Any) -> str:
    text = in_words(value)
    return text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…"
