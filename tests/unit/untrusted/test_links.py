import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.horde.storage import _request_target as request_target
from worker.untrusted.addresses import is_web_address
from worker.untrusted.text import redact_links as redact

SECRETS = st.text("abcXYZ0123456789%&=+-_", min_size=8)


@given(st.text(max_size=30), SECRETS, st.text("abc/.-", max_size=10))
def test_no_query_survives_redaction_wherever_the_url_stands(before: str, secret: str, path: str) -> None:
    shown = redact(f"{before} (https://host.invalid/{path}?X-Amz-Signature=!{secret}!)")
    assert f"!{secret}!" not in shown
    assert f"https://host.invalid/{path}?…" in shown


def test_a_user_part_is_cut_too() -> None:
    assert redact("at https://me:word@host/a?b=c then") == "at https://host/a?… then"


def test_text_without_a_secret_stays() -> None:
    assert redact("see https://host/a.webp, it is fine") == "see https://host/a.webp, it is fine"


@pytest.mark.parametrize(
    "url",
    ["", "ftp://host/a", "file:///etc/passwd", "/etc/passwd", "http://", "http://a b/", "http://host/ü", "http://h\n/"],
)
def test_what_is_no_web_address_is_known_as_such(url: str) -> None:
    assert not is_web_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://host:port/",
        "http://host:99999/",
        "http://host:0/",
        "http://a..b/",
        "http://xn--a/",
        f"http://{'a' * 64}/",
        f"http://h/{'x' * 70_000}",
    ],
)
def test_a_malformed_host_is_no_web_address(url: str) -> None:
    assert not is_web_address(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://host", b"/"),
        ("https://host?a=b", b"/?a=b"),
        ("https://host/a/../b%2fc?x='y'&z=%2F+~", b"/a/../b%2fc?x='y'&z=%2F+~"),
        ("https://host/a?b#part", b"/a?b"),
    ],
)
def test_the_target_is_the_text_as_it_stands(url: str, target: bytes) -> None:
    assert is_web_address(url)
    assert request_target(url) == target


@given(st.from_regex(r"https?://[!-~]{1,20}", fullmatch=True))
def test_what_passes_for_a_web_address_can_be_asked_for(url: str) -> None:
    if is_web_address(url):
        assert httpx.Request("GET", url).url.host
        assert request_target(url).startswith(b"/")
