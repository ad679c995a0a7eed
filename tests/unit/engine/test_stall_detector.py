"""How long an engine may stand still, by what it does."""

import pytest

from worker.engine.stall_detector import FIRST_MARGIN, MARGIN, MOST_MARGIN, MOST_PAUSES, Phase, StallLimits, StallWatch

FLOORS = {Phase.LOADING: 80.0, Phase.STEPPING: 15.0, Phase.FINISHING: 60.0}


@pytest.fixture
def stall_limits() -> StallLimits:
    return StallLimits(lambda: FLOORS)


@pytest.mark.parametrize("phase", Phase)
def test_of_what_was_never_seen_much_is_expected(stall_limits: StallLimits, phase: Phase) -> None:
    assert stall_limits.limit_s("a", phase, 0.25) == FIRST_MARGIN * FLOORS[phase]
    assert stall_limits.limit_s("a", phase, 4.0) == 4 * FIRST_MARGIN * FLOORS[phase]


@pytest.mark.parametrize(
    ("phase", "seen", "asked_mp", "expected"),
    [
        (Phase.STEPPING, [(1.0, 0.5)], 1.0, 15.0),  # quick: the owner's time-out
        (Phase.STEPPING, [(1.0, 10.0)], 1.0, 10.0 * MARGIN),
        (Phase.STEPPING, [(1.0, 10.0)], 4.0, 40.0 * MARGIN),  # a larger picture
        (Phase.STEPPING, [(1.0, 10.0), (1.0, 1.0)], 1.0, 10.0 * MARGIN),  # the longest counts
        (Phase.STEPPING, [(4.0, 40.0), (1.0, 20.0)], 1.0, 20.0 * MARGIN),
        (Phase.STEPPING, [(0.01, 10.0)], 0.01, 10.0 * MARGIN),  # small pictures are no quicker
        (Phase.LOADING, [(4.0, 100.0)], 1.0, 100.0 * MARGIN),  # a model is as large for any picture
        (Phase.LOADING, [(4.0, 1.0)], 1.0, 80.0),
        (Phase.FINISHING, [(1.0, 30.0)], 2.0, 60.0 * MARGIN),
    ],
)
def test_the_limit_follows_the_longest_pause_of_the_model_and_phase(
    stall_limits: StallLimits, phase: Phase, seen: list[tuple[float, float]], asked_mp: float, expected: float
) -> None:
    for megapixels, pause_s in seen:
        stall_limits.learn("a", phase, megapixels, pause_s)

    assert stall_limits.limit_s("a", phase, asked_mp) == pytest.approx(expected)
    assert stall_limits.limit_s("b", phase, 1.0) == FIRST_MARGIN * FLOORS[phase]


def test_memory_is_bounded(stall_limits: StallLimits) -> None:
    for number in range(MOST_PAUSES + 10):
        stall_limits.learn(str(number), Phase.LOADING, 1.0, 1.0)

    assert len(stall_limits._longest) == MOST_PAUSES


def test_a_prompt_is_followed_through_its_phases_and_teaches_their_pauses(stall_limits: StallLimits) -> None:
    watch = StallWatch(stall_limits, "a", 1.0)
    moves = [
        # when, steps done, of, the phase from then on
        (100.0, 0, 0, Phase.LOADING),
        (150.0, 0, 0, Phase.LOADING),  # a node: the sampler begins, and loads the model
        (170.0, 1, 3, Phase.STEPPING),
        (176.0, 2, 3, Phase.STEPPING),
        (182.0, 3, 3, Phase.FINISHING),
        (183.0, 0, 0, Phase.FINISHING),  # the decoder
        (203.0, 0, 0, Phase.FINISHING),  # a second sampler
        (210.0, 1, 3, Phase.STEPPING),
    ]
    for now, done, total, phase in moves:
        watch.moved(now, done=done, total=total)
        assert watch.phase is phase
        assert stall_limits.limit_s("a", Phase.LOADING, 1.0) == FIRST_MARGIN * FLOORS[Phase.LOADING]
    watch.ended_well()

    assert stall_limits.limit_s("a", Phase.LOADING, 1.0) == 50.0 * MARGIN
    assert stall_limits.limit_s("a", Phase.STEPPING, 1.0) == 6.0 * MARGIN
    assert stall_limits.limit_s("a", Phase.FINISHING, 1.0) == 20.0 * MARGIN
    assert watch.limit_s == 6.0 * MARGIN


@pytest.mark.parametrize("phase", Phase)
def test_the_first_margin_of_a_phase_holds_until_a_whole_job_has_shown_it(
    stall_limits: StallLimits, phase: Phase
) -> None:
    watch = StallWatch(stall_limits, "Cascade", 0.26, phase=phase)
    before = watch.limit_s
    for number in range(20):
        watch.moved(number * 0.2)
        assert watch.limit_s == before


def test_a_job_that_failed_teaches_no_pauses(stall_limits: StallLimits) -> None:
    watch = StallWatch(stall_limits, "a", 1.0)
    for now in (0.0, 0.1, 500.0):
        watch.moved(now)

    assert stall_limits.limit_s("a", Phase.LOADING, 1.0) == FIRST_MARGIN * FLOORS[Phase.LOADING]


@pytest.mark.parametrize("phase", Phase)
def test_one_very_long_pause_makes_no_patience_without_end(stall_limits: StallLimits, phase: Phase) -> None:
    stall_limits.learn("a", phase, 1.0, 10_000.0)

    assert stall_limits.limit_s("a", phase, 1.0) == MOST_MARGIN * FIRST_MARGIN * FLOORS[phase]
