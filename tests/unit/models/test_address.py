"""Which addresses are connected to."""

import httpx
import pytest

from worker.models.address import AddressRefused, PublicTransport, is_public


def transport(seen, addresses, **options):
    async def resolve(host, port):
        return addresses[host]

    def answer(request):
        seen.append((str(request.url), request.headers["host"], request.extensions.get("sni_hostname")))
        if "hop" in str(request.url):
            return httpx.Response(302, headers={"location": "http://inside/secret"})
        return httpx.Response(200)

    return PublicTransport(httpx.MockTransport(answer), resolve=resolve, **options)


async def get(url, addresses, **options):
    seen = []
    async with httpx.AsyncClient(transport=transport(seen, addresses, **options)) as http:
        await http.get(url, follow_redirects=True)
    return seen


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "ff02::1",
    ],
)  # fmt: skip
async def test_an_address_inside_is_refused(address):
    assert not is_public(address)
    with pytest.raises(AddressRefused, match="no public address"):
        await get("http://host/x", {"host": [address]})


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111"])
def test_an_address_of_the_internet_is_public(address):
    assert is_public(address)


async def test_the_connection_goes_to_the_address_that_was_checked():
    (seen,) = await get("https://host:444/x", {"host": ["1.1.1.1"]})
    assert seen == ("https://1.1.1.1:444/x", "host:444", "host")


async def test_one_bad_address_among_good_ones_is_enough():
    with pytest.raises(AddressRefused):
        await get("http://host/", {"host": ["1.1.1.1", "127.0.0.1"]})


async def test_a_redirect_to_the_inside_is_refused():
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        await get("http://host/hop", {"host": ["1.1.1.1"], "inside": ["10.0.0.1"]})


async def test_private_addresses_can_be_allowed():
    assert len(await get("http://host/hop", {}, private=True)) == 2


async def test_a_proxy_gets_the_name():
    (seen,) = await get("https://host/x", {"host": ["1.1.1.1"]}, proxy="http://proxy:1")
    assert seen == ("https://host/x", "host", None)


async def test_other_schemes_are_refused():
    with pytest.raises((AddressRefused, httpx.UnsupportedProtocol)):
        await get("ftp://host/x", {})


async def test_a_name_without_an_address_is_an_error_of_the_network():
    with pytest.raises(httpx.ConnectError):
        await get("http://host/", {"host": []})
