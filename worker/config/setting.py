"""One value on its way into the settings: the key, the value and the place where the owner wrote it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from worker.config.schema import FIELDS, nearest

#: Unknown keys named in warnings; a file with more is some other file.
MAX_UNKNOWN = 20


@dataclass(frozen=True)
class Setting:
    """A key with its value as text, None, or lists and mappings of them."""

    #: as written: the key, an alias, or the name of a variable
    name: str
    value: Any
    #: starts every message about this setting: "bridgeData.yaml:12", "environment", "command line"
    place: str
    #: the places of the list elements, where each has its own
    item_places: tuple[str, ...] = ()

    def sentence(self, text: str, item: int | None = None) -> str:
        """A message about this setting, or about its list element `item` (from 0)."""
        entry = "" if item is None else f"entry {item + 1}: "
        return f"{self.place_of(item)}: {self.name}: {entry}{text}"

    def place_of(self, item: int | None) -> str:
        """The place of a list element (from 0) where it has its own, else of the whole."""
        return self.item_places[item] if item is not None and item < len(self.item_places) else self.place

    @property
    def empty(self) -> bool:
        """Whether the owner wrote no value, so that the default applies."""
        return self.value is None or (isinstance(self.value, str) and not self.value.strip())


def by_field(settings: Iterable[Setting]) -> tuple[dict[str, Setting], tuple[str, ...]]:
    """Settings by the attribute they set, and warnings for unknown and repeated keys. The last of several wins."""
    chosen: dict[str, Setting] = {}
    warnings: list[str] = []
    unknown_keys = 0
    for setting in settings:
        field = FIELDS.get(setting.name)
        if field is None:
            unknown_keys += 1
            if unknown_keys <= MAX_UNKNOWN:
                warnings.append(setting.sentence(unknown(nearest(setting.name))))
            continue
        if before := chosen.get(field):
            also = f"as {before.name} " if before.name != setting.name else ""
            warnings.append(setting.sentence(f"is already set {also}at {before.place}; this value is used."))
        chosen[field] = setting
    if unknown_keys > MAX_UNKNOWN:
        warnings.append(f"{unknown_keys - MAX_UNKNOWN} more keys are not known.")
    return chosen, tuple(warnings)


def unknown(suggestion: str | None) -> str:
    """The warning about an unknown key."""
    return "is not a known key and has no effect" + (f"; did you mean {suggestion}?" if suggestion else ".")
