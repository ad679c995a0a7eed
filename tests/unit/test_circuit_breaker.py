"""What fails again and again is left alone for a while."""

from worker.circuit_breaker import CircuitBreaker


def test_it_opens_at_the_limit_and_closes_by_itself():
    breaker = CircuitBreaker(limit=3, open_s=10.0)
    assert [breaker.failed(at, f"failure {at}") for at in (0.0, 1.0, 2.0)] == [False, False, True]
    assert breaker.reason == "failure 2.0"
    assert breaker.is_open(11.9)
    assert not breaker.is_open(12.0)


def test_a_success_closes_it_and_clears_every_suspicion():
    breaker = CircuitBreaker(limit=2, open_s=10.0, longest_open_s=100.0)
    for at in (0.0, 1.0):
        breaker.failed(at)
    breaker.succeeded()
    assert not breaker.is_open(2.0)
    assert not breaker.failed(3.0), "failures before a success do not count"
    assert breaker.failed(4.0)
    assert breaker.open_until == 14.0, "the first opening is the short one again"


def test_failures_older_than_the_window_do_not_count():
    breaker = CircuitBreaker(limit=2, open_s=10.0, window_s=60.0)
    assert not breaker.failed(0.0)
    assert not breaker.failed(60.0)
    assert breaker.failed(61.0)


def test_openings_in_a_row_grow_to_the_longest():
    breaker = CircuitBreaker(limit=1, open_s=10.0, longest_open_s=30.0)
    spans = []
    for at in (0.0, 100.0, 200.0, 300.0):
        breaker.failed(at)
        spans.append(breaker.open_until - at)
    assert spans == [10.0, 20.0, 30.0, 30.0]


def test_openings_stay_alike_where_no_longest_is_given():
    breaker = CircuitBreaker(limit=1, open_s=10.0)
    breaker.failed(0.0)
    breaker.failed(100.0)
    assert breaker.open_until == 110.0
