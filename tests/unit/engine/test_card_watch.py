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


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({"type": "cpu", "vram_total": 9, "vram_free": 5, "torch_vram_total": 9, "torch_vram_free": 5}, None),
        ({}, None),
        (
            {"type": "cuda", "vram_total": 90, "vram_free": 50, "torch_vram_total": 30, "torch_vram_free": 10},
            Reading(90, 40, 30 + CONTEXT_BYTES),
        ),
    ],
)
def test_what_torch_holds_without_using_it_is_not_free_for_others(
    device: dict[str, Any], expected: Reading | None
) -> None:
    assert read({"devices": [device]}) == expected
    assert read({}) is None
