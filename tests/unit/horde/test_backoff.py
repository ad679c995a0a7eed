import asyncio

from hypothesis import given
from hypothesis import strategies as st

from worker.errors import HordeBusy, HordeUnreachable
from worker.horde.backoff import RateLimit, RetryPolicy, repeat


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
def test_no_window_holds_more_requests_than_allowed(count: int, gaps: list[float]) -> None:
    rate_limit = RateLimit(count, 1.0)
    now, sent = 0.0, []
    for gap in gaps:
        now += gap
        wait = rate_limit.reserve(now)
        assert wait >= 0
        sent.append(now + wait)
    assert sent == sorted(sent)
    for first, beyond in zip(sent, sent[count:], strict=False):
        assert beyond - first >= 1.0 - 1e-9


def test_the_first_requests_go_at_once() -> None:
    rate_limit = RateLimit(3, 60.0)
    assert [rate_limit.reserve(5.0) for _ in range(4)] == [0.0, 0.0, 0.0, 60.0]


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_stay_within_their_bounds(failures: int, draw: float) -> None:
    policy = RetryPolicy(tries=3, within_s=60.0, first_wait_s=0.5, longest_wait_s=10.0)
    assert 0.25 <= policy.wait_s(failures, draw) <= 10.0


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(tries=3, within_s=60.0, first_wait_s=1.0, longest_wait_s=6.0)
    assert [policy.wait_s(failures, 1.0) for failures in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 6.0, 6.0]


async def test_an_answer_that_says_nothing_of_the_request_does_not_use_up_its_tries() -> None:
    """Too many requests, a gateway's trouble, no answer at all: each is asked again while there is time."""
    failures = [HordeBusy("Later.", retry_after_s=0.0), HordeUnreachable("No.", status=502), HordeUnreachable("No.")]
    left = failures * 3

    async def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    policy = RetryPolicy(tries=2, within_s=60.0, first_wait_s=0.0, longest_wait_s=0.0)
    assert await repeat(attempt, policy, asyncio.get_running_loop().time() + 60.0) == "done"
