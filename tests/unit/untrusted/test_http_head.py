"""Heads of answers that never end. The server is a socket of our own."""

import httpx
import pytest

from tests.unit.untrusted.test_http_body import answering
from worker.errors import InputRefused
from worker.untrusted.http_head import MOST_HEAD_BYTES, MOST_INTERIM_HEADS, bounded_head

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


async def ask(url, times=1):
    async with httpx.AsyncClient(trust_env=False, event_hooks={"request": [bounded_head]}) as http:
        return [(await http.get(url)).content for _ in range(times)]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
async def test_a_head_of_any_usual_length_is_read(end):
    head = OK + b"".join(b"x-%d: %b\r\n" % (n, b"v" * 500) for n in range(20)) + end
    async with answering(head, b"ok") as url:
        assert await ask(url) == [b"ok"]


async def test_what_comes_with_the_head_belongs_to_the_body():
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000) as url:
        assert await ask(url) == [b"x" * 100_000]


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
async def test_a_few_interim_answers_are_passed_over(status):
    interim = b"HTTP/1.1 " + status + b"\r\n\r\n"
    async with answering(interim * MOST_INTERIM_HEADS + OK + b"\r\nok") as url:
        assert await ask(url) == [b"ok"]


@pytest.mark.parametrize(
    "flood",
    [
        b"a:b\r\n" * MOST_HEAD_BYTES,
        b"a: " + b"b" * (MOST_HEAD_BYTES + 4096),
        b"a:b\r\n" * 15_000 + b"\r\n",
        b"set-cookie: x\r\n" * 2_000 + b"\r\nok",
    ],
    ids=["endless", "one line", "75 kB", "cookies"],
)
async def test_a_head_without_measure_is_refused(flood):
    async with answering(OK + flood) as url:
        with pytest.raises(InputRefused, match="headers"):
            await ask(url)


async def test_interim_answers_without_an_end_are_refused():
    async with answering(b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000) as url:
        with pytest.raises(InputRefused, match="without coming"):
            await ask(url)
