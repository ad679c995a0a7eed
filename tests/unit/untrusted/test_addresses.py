"""Which addresses are connected to. Names are looked up in a table; the servers are real ones."""

import socket

import httpx
import pytest

from worker.errors import AddressRefused
from worker.models.download.downloader import open_client
from worker.untrusted import addresses as address_module
from worker.untrusted.addresses import is_public, only_public

HERE = "127.0.0.1"
#: Of this machine as well, and nobody listens there.
DEAD = "127.0.0.2"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def names(monkeypatch):
    """Names and their addresses."""
    names = {}
    plain = socket.getaddrinfo

    def look_up(host, port, *arguments, **options):
        host = host.decode() if isinstance(host, bytes) else host
        return [
            found
            for address in names.get(host, [host])
            for found in plain(address, port, *arguments, **options)
        ]  # fmt: skip

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


@pytest.fixture
def public(monkeypatch):
    """Addresses of this machine that count as public."""
    public = {HERE, DEAD}
    monkeypatch.setattr(address_module, "is_public", lambda address: address in public or is_public(address))
    return public


async def get(url, **options):
    async with open_client(**options) as http:
        return (await http.get(url, follow_redirects=True)).content


def at(server, name):
    return server.url.replace(HERE, name)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "ff02::1",
    ],
)  # fmt: skip
def test_an_address_inside_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111"])
def test_an_address_of_the_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize("host", [HERE, "inside.example", "2130706433"])
async def test_nothing_is_asked_of_an_address_inside_however_it_is_written(serve, names, host):
    names["inside.example"] = [HERE]
    async with serve(b"secret") as server:
        with pytest.raises(AddressRefused, match="no public address"):
            await get(at(server, host))
        assert server.requests == []


async def test_one_bad_address_among_good_ones_is_enough(names):
    names["host.example"] = ["1.1.1.1", HERE]
    with pytest.raises(AddressRefused):
        await get("http://host.example/")


async def test_a_name_that_resolves_differently_a_moment_later_is_found_out_before_anything_is_sent(serve, names):
    async def lie(host, port):
        return ["1.1.1.1"]

    names["host.example"] = [HERE]
    async with (
        serve(b"secret") as server,
        httpx.AsyncClient(event_hooks={"request": [only_public(lie)]}) as http,
    ):
        with pytest.raises(AddressRefused, match="no public address"):
            await http.get(at(server, "host.example"))
        assert server.requests == []


async def test_a_redirect_to_the_inside_is_refused(serve, names, public):
    names.update({"host.example": [HERE], "inside.example": [DEAD]})
    public.remove(DEAD)
    async with serve(b"file") as server:
        server.faults = ["redirect:http://inside.example/secret"]
        with pytest.raises(AddressRefused, match=DEAD):
            await get(at(server, "host.example"))


@pytest.mark.parametrize("place", ["/moved", "{host}/moved"])
async def test_a_redirect_of_a_host_to_itself_stays_with_its_name_and_keeps_the_token(serve, names, public, place):
    names["host.example"] = [HERE]
    async with serve(b"file") as server, open_client() as http:
        host = at(server, "host.example").removesuffix("/m.bin")
        server.faults = [f"redirect:{place.format(host=host)}"]
        answer = await http.get(f"{host}/m.bin", headers={"authorization": "Bearer t"}, follow_redirects=True)
        first, second = server.requests
    assert answer.content == b"file"
    assert second["path"] == "/moved"
    assert second["host"] == first["host"] == host.removeprefix("http://")
    assert second["authorization"] == "bearer t"


async def test_a_dead_address_of_a_name_is_passed_over(serve, names, public):
    names["host.example"] = [DEAD, HERE]
    async with serve(b"file") as server:
        assert await get(at(server, "host.example")) == b"file"


async def test_private_addresses_can_be_allowed(serve):
    async with serve(b"file") as server:
        assert await get(server.url, private=True) == b"file"


async def test_a_proxy_gets_names_that_only_it_knows(serve, monkeypatch):
    async with serve(b"file") as server:
        monkeypatch.setenv("HTTP_PROXY", server.base)
        assert await get("http://host.invalid/m.bin") == b"file"
        assert [request["path"] for request in server.requests] == ["http://host.invalid/m.bin"]


async def test_a_proxy_is_not_asked_for_an_address_inside(serve, monkeypatch):
    async with serve(b"file") as server:
        monkeypatch.setenv("HTTP_PROXY", server.base)
        with pytest.raises(AddressRefused):
            await get("http://10.0.0.1/m.bin")
        assert server.requests == []


async def test_a_host_the_environment_excepts_is_asked_without_the_proxy_and_must_be_public(serve, monkeypatch, names):
    names["inside.example"] = [HERE]
    async with serve(b"file") as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://{DEAD}:9")
        monkeypatch.setenv("NO_PROXY", "inside.example")
        assert await get(at(server, "inside.example"), private=True) == b"file"
        with pytest.raises(AddressRefused):
            await get(at(server, "inside.example"))


@pytest.mark.parametrize("private", [True, False])
async def test_other_schemes_are_refused(private):
    with pytest.raises(AddressRefused, match="ftp"):
        await get("ftp://host/x", private=private)


async def test_a_name_without_an_address_is_an_error_of_the_network(monkeypatch):
    def nothing(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(httpx.ConnectError):
        await get("http://host.example/")


async def test_a_name_longer_than_names_can_be_is_an_error_of_the_network():
    with pytest.raises(httpx.ConnectError):
        await get(f"http://{'a' * 64}.example/")


@pytest.mark.parametrize(("found", "inside"), [(["8.8.8.8", "127.0.0.1"], True), (["8.8.8.8", "1.1.1.1"], False)])
async def test_a_name_leads_inside_when_one_of_its_addresses_does(found, inside):
    async def resolve(host, port):
        return found

    assert await address_module.is_inside("https://models.example/x", resolve) is inside


@pytest.mark.parametrize("address", ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_a_public_address_within_another_is_public(address):
    assert is_public(address)
