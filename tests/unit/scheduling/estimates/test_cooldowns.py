"""Models that break engines are not offered for a while."""

from worker.circuit_breaker import CircuitBreaker
from worker.scheduling.estimates.cooldowns import BREAKER, MOST_MODELS, ModelCooldowns


def test_a_model_that_breaks_engines_in_a_row_is_not_offered_with_the_reason_and_comes_back():
    cooldowns = ModelCooldowns(lambda: CircuitBreaker(limit=3, open_s=100))
    assert [cooldowns.failed("a", now, "It crashed.") for now in (0, 1, 2)] == [False, False, True]
    limit = cooldowns.limit_of("a", 50)
    assert limit is not None
    # Part of a sentence with a full stop of its own.
    assert (limit.pixels, limit.reason.endswith("the last by: It crashed")) == (0, True)
    assert cooldowns.limit_of("b", 50) is None
    assert cooldowns.limit_of("a", 102) is None


def test_a_success_between_forgives_what_was_before():
    cooldowns = ModelCooldowns(lambda: CircuitBreaker(limit=2, open_s=100))
    cooldowns.failed("a", 0, "…")
    cooldowns.succeeded("a")
    assert not cooldowns.failed("a", 1, "…")


def test_the_way_back_takes_minutes_at_first():
    assert BREAKER().open_s <= 300.0


def test_models_remembered_are_bounded():
    cooldowns = ModelCooldowns()
    for number in range(MOST_MODELS + 10):
        cooldowns.failed(str(number), 0.0, "…")
    assert len(cooldowns._breakers) == MOST_MODELS
