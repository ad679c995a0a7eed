"""The score that goes out beside a verdict."""

from typing import Any

import pytest

from worker.safety.gate import _finding
from worker.safety.verdict import Finding


@pytest.mark.parametrize(
    ("score", "read"),
    [
        (5.25, 5.25), (0, 0.0), (10, 10.0), (None, None), ("5", None), (True, None), (float("nan"), None),
        (float("inf"), None), (-1, None), (11, None), ([5], None), ({}, None),
    ],
)  # fmt: skip
def test_a_score_is_read_where_it_is_one_and_never_costs_the_verdict(score: Any, read: float | None) -> None:
    assert _finding({"nsfw": False, "csam": False, "aesthetic": score}) == Finding(False, False, read)
    assert _finding({"nsfw": True, "csam": False}) == Finding(True, False, None)
