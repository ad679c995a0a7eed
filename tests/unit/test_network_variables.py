"""Variables that configure connections are checked before a library fails on them."""

import os
from unittest import mock

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import ConfigError
from worker.network_variables import check_network_variables, network_problems


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith("SSL") or name.endswith("CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks4://h:1"),
        ("HTTP_PROXY", "http://proxy.lan:abc"),
        ("https_proxy", "://"),
        ("HTTPS_PROXY", "http://"),
        ("HTTPS_PROXY", "ftp://x:1"),
        ("http_proxy", "http://p:99999"),
        ("HTTP_PROXY", "http://[::1"),
        ("HTTP_PROXY", " http://x:1"),
        ("HTTP_PROXY", "http://x:1\r"),
        ("HTTP_PROXY", '"http://x:1"'),
        ("All_Proxy", "foo://x"),
        ("Http_Proxy", "http://p:99999"),
        ("No_Proxy", "host:abc"),
        ("HTTPS_PROXY", "http://me:pass#word@proxy:3128"),
        ("HTTPS_PROXY", "http://me:pass?word@proxy:3128"),
        ("SSLKEYLOGFILE", "/tmp"),
        ("NO_PROXY", "host:abc"),
        ("NO_PROXY", "m\u00fcnchen.lan"),
        ("HTTP_PROXY", "http://999.168.1.1:3128"),
        ("no_proxy", "[::1]:80"),
        ("SSL_CERT_FILE", "/nonexistent/ca.pem"),
        ("SSL_CERT_FILE", "/etc"),
        ("SSL_CERT_FILE", __file__),
        ("SSL_CERT_DIR", "/nonexistent"),
        ("REQUESTS_CA_BUNDLE", "/nonexistent/ca.pem"),
        ("CURL_CA_BUNDLE", "/nonexistent/ca.pem"),
        ("SSLKEYLOGFILE", "/nonexistent/keys.log"),
    ],
)
def test_a_variable_that_no_library_can_use_is_named_with_a_remedy(name, value):
    with pytest.raises(ConfigError, match=rf"environment variable {name} ") as caught:
        check_network_variables({name: value})
    assert name in caught.value.remedy


def test_every_wrong_variable_is_named_at_once():
    found = list(network_problems({"HTTP_PROXY": "http://p:x", "SSL_CERT_DIR": "/nonexistent"}))
    assert ["HTTP_PROXY" in found[0].message, "SSL_CERT_DIR" in found[1].message] == [True, True]


def test_a_password_in_a_proxy_address_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        check_network_variables({"HTTP_PROXY": "http://me:s3cret@proxy:abc"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("all_proxy", "socks5h://u:p@h:1080"),
        ("all_proxy", "socks://127.0.0.1:7891/"),
        ("ALL_PROXY", "SOCKS://127.0.0.1:7891"),
        ("All_Proxy", "Socks://127.0.0.1:7891"),
        ("Https_Proxy", "HTTP://proxy.lan:3128"),
        ("No_Proxy", "[::1]"),
        ("HTTP_PROXY", "proxy.lan:3128"),
        ("HTTP_PROXY", "http://[fe80::1]:80"),
        ("HTTP_PROXY", ""),
        ("NO_PROXY", "[::1]"),
        ("NO_PROXY", "*.lan, localhost ,10.0.0.0/8,::1,fe80::/10,[fe80::1%eth0],192.168.*,host:8080"),
        ("NO_PROXY", "*"),
        ("NO_PROXY", ",,;"),
        ("SSL_CERT_FILE", ""),
    ],
)
async def test_what_passes_the_check_makes_a_client(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    check_network_variables(os.environ)
    await httpx.AsyncClient().aclose()


@pytest.mark.parametrize("written", ["localhost;10.0.0.1", "localhost 10.0.0.1", " localhost ;, 10.0.0.1;"])
def test_exceptions_from_the_proxy_may_be_separated_as_windows_and_curl_do(written):
    environment = {"NO_PROXY": written}
    check_network_variables(environment)
    assert environment == {"NO_PROXY": "localhost,10.0.0.1"}


SPELLED = st.sampled_from(["ALL_PROXY", "https_proxy", "Http_Proxy", "NO_PROXY", "No_Proxy"])
PIECES = st.sampled_from([
    "http", "HTTPS", "socks5", "SOCKS", "ftp", "://", ":", "//", "@", "[", "]", "::1", "%", "%zz", "*", ".", ",", ";",
    " ", "xn--", "proxy.lan", "127.0.0.1", "999.1.1.1", "10.0.0.0/8",
    "3128", "99999", "-1", "0", "a b", "\u00e9", "\r", "#", "?", "/", "u:p",
])  # fmt: skip


@given(SPELLED, st.lists(PIECES, max_size=8).map("".join))
@settings(deadline=None)
def test_whatever_is_written_it_is_named_or_makes_a_client(name, value):
    environment = {name: value}
    if problems := list(network_problems(environment)):
        assert name in problems[0].message
        return
    check_network_variables(environment)
    with mock.patch.dict(os.environ, environment):
        httpx.AsyncClient(verify=False)
