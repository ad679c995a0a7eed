"""One value on its way into the settings: what was written, where, and for which key. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from worker.config.schema import FIELDS, nearest


@dataclass(frozen=True)
class Setting:
    #: as the owner wrote it: the key, an alias of it, or a variable's name
    name: str
    value: Any
    #: begins every sentence about it: "bridgeData.yaml:12", "environment", "command line"
    place: str
    #: the same for each element of a list, where they differ
    item_places: tuple[str, ...] = ()

    def sentence(self, text: str, item: int | None = None) -> str:
        """`text` said of this setting, or of its list element number `item` (from 0)."""
        place = self.place
        if item is not None and item < len(self.item_places):
            place = self.item_places[item]
        entry = "" if item is None else f"entry {item + 1}: "
        return f"{place}: {self.name}: {entry}{text}"

    @property
    def empty(self) -> bool:
        """Nothing was written; the default counts."""
        return self.value is None or (isinstance(self.value, str) and not self.value.strip())


def by_field(settings: Iterable[Setting]) -> tuple[dict[str, Setting], tuple[str, ...]]:
    """Settings by the attribute they set, and warnings for unknown and repeated names. Of several the last counts."""
    chosen: dict[str, Setting] = {}
    warnings: list[str] = []
    for setting in settings:
        field = FIELDS.get(setting.name)
        if field is None:
            warnings.append(setting.sentence(unknown(nearest(setting.name))))
            continue
        if before := chosen.get(field):
            also = f"as {before.name} " if before.name != setting.name else ""
            warnings.append(setting.sentence(f"is set {also}at {before.place} already; this one counts."))
        chosen[field] = setting
    return chosen, tuple(warnings)


def unknown(meant: str | None) -> str:
    """What to say of a name that is none of ours."""
    return "is not a known key and has no effect" + (f"; did you mean {meant}?" if meant else ".")
