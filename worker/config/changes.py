"""What a new reading of the settings changes, and when each change counts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from worker.config.key import Effect, about
from worker.config.schema import BridgeData

#: Characters of a value that are shown.
SHOWN_LENGTH = 80

_WHEN = {
    Effect.AT_ONCE: "at once",
    Effect.ENGINE_START: "when an engine starts next",
    Effect.RESTART: "only after a restart of the worker",
    Effect.NONE: "never (it has no effect)",
}


@dataclass(frozen=True)
class Change:
    """One key with another value than before."""

    key: str
    effect: Effect
    before: Any
    after: Any

    def __str__(self) -> str:
        if isinstance(self.before, SecretStr) or isinstance(self.after, SecretStr):
            return self.key
        return f"{self.key} {_shown(self.before)} → {_shown(self.after)}"


def changes(before: BridgeData, after: BridgeData) -> tuple[Change, ...]:
    """Every key that differs, in the schema's order."""
    return tuple(
        Change(name, about(field).effect, getattr(before, name), getattr(after, name))
        for name, field in BridgeData.model_fields.items()
        if getattr(before, name) != getattr(after, name)
    )


def in_force(running: BridgeData, wanted: BridgeData) -> BridgeData:
    """The settings that count from now on: `wanted`, with what only a restart changes as it is."""
    kept = {
        name: getattr(running, name)
        for name, field in BridgeData.model_fields.items()
        if about(field).effect is Effect.RESTART
    }
    return wanted.model_copy(update=kept)


def sentences(changed: Sequence[Change]) -> tuple[str, ...]:
    """One for each moment at which some of the changes count."""
    return tuple(
        f"{', '.join(map(str, those))}: counts {_WHEN[effect]}."
        for effect in Effect
        if (those := [change for change in changed if change.effect is effect])
    )


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case None | "":
            return "nothing"
        case tuple():
            text = "[" + ", ".join(str(getattr(item, "name", item)) for item in value) + "]"
        case _:
            text = str(value)
    return text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…"
