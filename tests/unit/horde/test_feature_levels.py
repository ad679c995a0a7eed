"""The server's table of feature levels, and what follows from it for the name a worker goes by."""

import pytest

from worker.horde.agent import bridge_agent, level_of, lowered
from worker.horde.feature_levels import GATES, HIGHEST_LEVEL, LOWEST_LEVEL, Gate, level_without

AGENT = bridge_agent("13.0.0", "https://example.invalid")


def test_every_gate_opens_at_one_level():
    opened = [gate for gates in GATES.values() for gate in gates]
    assert sorted(opened) == sorted(Gate)


@pytest.mark.parametrize(
    ("gate", "level"),
    [
        (Gate.LORA_VERSIONS, 2),
        (Gate.LCM, 2),
        (Gate.EXTRA_SOURCES, 3),
        (Gate.CASCADE_TWO_PASSES, 5),
        (Gate.QR_CODE, 6),
        (Gate.TRANSPARENT, 7),
        (Gate.FLUX, 8),
        (Gate.NEW_POST_PROCESSING, 9),
        # These come to everyone who gets any job.
        (Gate.TILING, HIGHEST_LEVEL),
        (Gate.SAMPLERS, HIGHEST_LEVEL),
    ],
)
def test_a_kind_of_job_that_fails_is_not_offered_at_the_level_without_it(gate, level):
    # Levels are the numbers at which something opens, and 8 is one of them: the transparent pictures'.
    assert level_without({gate}) == level
    opened = {gate for opens, gates in GATES.items() if opens <= level for gate in gates}
    assert gate not in opened or level == HIGHEST_LEVEL


def test_the_lowest_of_several_decides_and_nothing_failing_is_the_highest():
    assert level_without({Gate.NEW_POST_PROCESSING, Gate.QR_CODE}) == 6
    assert level_without(()) == HIGHEST_LEVEL == 13
    assert level_without(set(Gate)) == LOWEST_LEVEL


def test_an_agent_is_lowered_and_never_raised():
    assert level_of(AGENT) == 13
    assert lowered(AGENT, 6) == bridge_agent("6.0.0", "https://example.invalid")
    low = bridge_agent("6.0.0", "https://example.invalid")
    assert lowered(low, 13) == low


@pytest.mark.parametrize("agent", ["Another Worker:13.0.0:u", "AI Horde Worker reGen", "AI Horde Worker reGen:new:u"])
def test_another_name_has_no_level_and_is_left_alone(agent):
    assert level_of(agent) is None
    assert lowered(agent, 6) == agent
