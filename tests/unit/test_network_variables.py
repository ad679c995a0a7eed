"""Variables that configure connections are checked before a library fails on them."""

import os

import httpx
import pytest

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
        ("NO_PROXY", "host:abc"),
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
