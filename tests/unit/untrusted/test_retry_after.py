"""How long a server may make the worker wait."""

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import pytest

from worker.errors import DownloadFailed
from worker.models.download.transfer import _status_error
from worker.untrusted.retry_after import (
    DEFAULT_RETRY_AFTER_S,
    MAX_RETRY_AFTER_S,
    MIN_RETRY_AFTER_S,
    retry_after_s,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("2.5", 2.5),
        ("", DEFAULT_RETRY_AFTER_S),
        ("soon", DEFAULT_RETRY_AFTER_S),
        ("-1", DEFAULT_RETRY_AFTER_S),
        ("nan", DEFAULT_RETRY_AFTER_S),
        ("0", MIN_RETRY_AFTER_S),
        ("inf", MAX_RETRY_AFTER_S),
        ("1e9", MAX_RETRY_AFTER_S),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), DEFAULT_RETRY_AFTER_S),
        ("Sun, 22 Nov 2026 12:01:00 -0000", DEFAULT_RETRY_AFTER_S),
        ("\u00b2", DEFAULT_RETRY_AFTER_S),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        ("Sun, 22 Nov 99999 12:01:00 GMT", DEFAULT_RETRY_AFTER_S),
    ],
)
def test_retry_after_is_read_in_every_form(header: str, expected: float) -> None:
    assert retry_after_s(header, NOW) == expected


@pytest.mark.parametrize("header", ["\u00b2", "1e9", "Sun, 22 Nov 2099 12:01:00 GMT"])
def test_a_download_that_is_turned_down_survives_any_header(header: str) -> None:
    error = _status_error(httpx.Response(429, headers=[(b"retry-after", header.encode("latin-1"))]))
    assert isinstance(error, DownloadFailed)
    assert 0.0 <= error.retry_after_s <= MAX_RETRY_AFTER_S
