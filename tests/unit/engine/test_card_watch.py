"""Whether other programs leave the engines enough of a card."""

from typing import Any

import pytest

from worker.engine.card_watch import CONTEXT_BYTES, Reading, read, shortage
from worker.units import GIB


def card(total: float, free: float, *engines: float) -> list[Reading]:
    """Readings of a card by engines that hold so many GiB each."""
    return [Reading(int(total * GIB), int(free * GIB), int(held * GIB)) for held in engines]


@pytest.mark.parametrize(
    ("readings", "others_gib"),
    [
        ([], None),
        (card(8, 7.5, 0.5), None),  # nobody else
        (card(8, 0.5, 6), None),  # ours is what fills it
        (card(8, 0.1, 2, 2.5), None),  # several of ours
        (card(8, 5.5, 0.5), None),  # a desktop
        (card(8, 1.5, 0.5), 6.0),  # a game
        (card(24, 8, 6), None),  # a game on a large card leaves enough
        (card(24, 4, 3), 17.0),
        (card(24, 4, 1.5, 1.5), 17.0),
        (card(2, 1.5, 0.5), None),  # a small card of our own
    ],
)
def test_a_card_is_left_alone_when_others_leave_too_little(readings: list[Reading], others_gib: float | None) -> None:
    said = shortage(readings)

    assert said == (
        "" if others_gib is None else f"other programs hold {others_gib} of its {readings[0].total / GIB} GiB"
    )


CARD = {"type": "cuda", "vram_total": 90, "vram_free": 50, "torch_vram_total": 30, "torch_vram_free": 10}


@pytest.mark.parametrize(
    ("device", "paged", "expected"),
    [
        ({"type": "cpu", "vram_total": 9, "vram_free": 5, "torch_vram_total": 9, "torch_vram_free": 5}, 0, None),
        ({}, 0, None),
        (CARD, 0, Reading(90, 40, 30 + CONTEXT_BYTES)),
        # Of an engine that pages weights torch counts a part only.
        (CARD, 45, Reading(90, 40, 45 + CONTEXT_BYTES)),
        (CARD, None, None),
    ],
)
def test_what_torch_holds_without_using_it_is_not_free_for_others(
    device: dict[str, Any], paged: int | None, expected: Reading | None
) -> None:
    assert read({"devices": [device]}, paged) == expected
    assert read({}, paged) is None


def test_weights_that_an_engine_pages_are_no_other_programs() -> None:
    """A Flux on a card of 16 GiB, of which torch knows the activations only."""
    stats = {
        "type": "cuda",
        "vram_total": 16 * GIB,
        "vram_free": 2 * GIB,
        "torch_vram_total": GIB,
        "torch_vram_free": 0,
    }
    told = read({"devices": [stats]}, 13 * GIB)
    assert told is not None
    assert shortage([told]) == ""
    without = read({"devices": [stats]}, 0)
    assert without is not None
    assert shortage([without]) == "other programs hold 12.5 of its 16.0 GiB"
