import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.unit.horde.scripted import AGENT, HASTY, HASTY_LIMITS, KEY, refused
from worker.errors import (
    ConfigError,
    HordeBusy,
    HordeMaintenance,
    HordeRefused,
    HordeUnreachable,
    JobGone,
)
from worker.horde import client as client_module
from worker.horde.client import HordeClient
from worker.horde.messages import PopRequest, SubmitRequest
from worker.horde.pop_parser import read_pop

ID = "2e42ccc3-a593-4512-a852-750b00fc216f"
JOB: dict[str, Any] = {
    "id": ID,
    "ids": [ID],
    "payload": {"prompt": "a fox"},
    "model": "Deliberate",
    "r2_uploads": [f"https://storage.invalid/{ID}.webp?X-Amz-Signature=abc"],
}
DONE = SubmitRequest(id=ID, generation="R2", state="ok", seed=1)
FAULT = SubmitRequest(id=ID, generation="faulted", state="faulted", seed=1)
LOST = httpx.ReadError("connection reset")
SERVER_ERROR = httpx.Response(500, json={"message": "Internal Server Error"})


class Breaking(httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


async def test_a_pop_sends_every_field_and_who_asks(connect, pop_request: PopRequest) -> None:
    client, server = connect(JOB)
    job = await client.pop(pop_request)
    (sent,) = server.requests
    assert (sent.method, str(sent.url)) == ("POST", "https://horde.invalid/api/v2/generate/pop")
    assert (sent.headers["apikey"], sent.headers["client-agent"]) == (KEY, AGENT)
    assert server.bodies == [pop_request.model_dump(exclude_none=True)]
    assert KEY not in sent.content.decode()
    assert (job.job_ids, job.problems) == ([ID], ())


@pytest.mark.parametrize("failure", [LOST, httpx.ReadTimeout("late"), httpx.ConnectError("refused"), SERVER_ERROR])
async def test_a_pop_is_never_repeated_by_the_client(connect, pop_request: PopRequest, failure: Any) -> None:
    client, server = connect(failure, JOB)
    with pytest.raises(HordeUnreachable):
        await client.pop(pop_request)
    assert len(server.requests) == 1


async def test_a_pop_that_breaks_off_still_tells_its_ids(connect, pop_request: PopRequest) -> None:
    body = Breaking(b'{"payload": {"prompt": "a', b' fox"}, "id": null, "ids": ["' + ID.encode() + b'"], "mess')
    client, _ = connect(httpx.Response(200, stream=body))
    job = await client.pop(pop_request)
    assert job.job_ids == [ID]
    assert "breaks off" in job.problems[0]


@pytest.mark.parametrize("body", [b"<html>", b"", b"{}"])
async def test_a_pop_answered_by_garbage_is_unreachable(connect, pop_request: PopRequest, body: bytes) -> None:
    client, _ = connect(httpx.Response(200, content=body))
    with pytest.raises(HordeUnreachable, match="no sense"):
        await client.pop(pop_request)


async def test_a_pop_that_never_ends_is_given_up_with_what_arrived(connect, pop_request: PopRequest) -> None:
    class Stalling(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'{"ids": ["' + ID.encode()
            await asyncio.Event().wait()

    limits = dataclasses.replace(HASTY_LIMITS, pop_s=0.01)
    client, _ = connect(httpx.Response(200, stream=Stalling()), limits=limits)
    assert (await client.pop(pop_request)).job_ids == [ID]


async def test_an_answer_beyond_all_measure_is_cut(connect, pop_request: PopRequest) -> None:
    limits = dataclasses.replace(HASTY_LIMITS, answer_bytes=100)
    client, _ = connect(JOB | {"payload": {"prompt": "x" * 1000}}, limits=limits)
    assert (await client.pop(pop_request)).job_ids == [ID]


@pytest.mark.parametrize(("characters", "aside"), [(1000, False), (300_000, True)])
async def test_an_answer_longer_than_any_job_is_read_beside_the_event_loop(
    connect, pop_request: PopRequest, monkeypatch, characters: int, aside: bool
) -> None:
    threads = []

    def read(answer):
        threads.append(threading.current_thread())
        return read_pop(answer)

    monkeypatch.setattr(client_module, "read_pop", read)
    client, _ = connect(JOB | {"payload": {"prompt": "x" * characters}})
    assert (await client.pop(pop_request)).payload["prompt"] == "x" * characters
    assert (threads[0] is not threading.current_thread()) == aside


async def test_a_pop_in_maintenance_says_so(connect, pop_request: PopRequest) -> None:
    client, _ = connect(refused(403, "WorkerMaintenance", "back soon"))
    with pytest.raises(HordeMaintenance, match="back soon"):
        await client.pop(pop_request)


async def test_a_rate_limited_pop_is_left_to_its_caller(connect, pop_request: PopRequest) -> None:
    client, server = connect(httpx.Response(429, json={"message": "60 per 1 second"}, headers={"Retry-After": "7"}))
    with pytest.raises(HordeBusy) as caught:
        await client.pop(pop_request)
    assert caught.value.retry_after_s == 7.0
    assert len(server.requests) == 1


async def test_a_submit_tells_the_reward(connect) -> None:
    client, server = connect({"reward": 5.76})
    assert (await client.submit(DONE)).reward == 5.76
    assert server.bodies == [{"id": ID, "generation": "R2", "state": "ok", "seed": 1, "gen_metadata": []}]


@pytest.mark.parametrize(
    "failure", [LOST, httpx.ConnectError("refused"), SERVER_ERROR, httpx.Response(200, text="<p>")]
)
async def test_a_submit_is_repeated_when_its_answer_is_lost(connect, failure: Any) -> None:
    client, server = connect(failure, {"reward": 1.0})
    assert (await client.submit(DONE)).reward == 1.0
    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize(
    ("request_", "rc"),
    [(DONE, "DuplicateGen"), (FAULT, "DuplicateGen"), (FAULT, "AbortedGen")],
    ids=["image", "fault", "fault called aborted"],
)
async def test_answered_before_after_an_own_try_is_delivered(connect, request_: SubmitRequest, rc: str) -> None:
    client, _ = connect(LOST, refused(400, rc))
    assert (await client.submit(request_)).reward is None


async def test_answered_before_at_the_first_try_means_the_job_is_gone(connect) -> None:
    client, server = connect(refused(400, "DuplicateGen"))
    with pytest.raises(JobGone):
        await client.submit(DONE)
    assert len(server.requests) == 1


async def test_an_image_aborted_meanwhile_is_not_called_delivered(connect) -> None:
    client, _ = connect(LOST, refused(400, "AbortedGen"))
    with pytest.raises(JobGone):
        await client.submit(DONE)


@pytest.mark.usefixtures("no_least_wait")
async def test_a_rate_limited_submit_did_not_arrive(connect) -> None:
    client, _ = connect(httpx.Response(429, headers={"Retry-After": "0"}), refused(400, "DuplicateGen"))
    with pytest.raises(JobGone):
        await client.submit(DONE)


async def test_a_strange_reward_is_a_delivery_all_the_same(connect) -> None:
    client, server = connect({"reward": "lots"})
    assert (await client.submit(DONE)).reward is None
    assert len(server.requests) == 1


async def test_a_server_that_goes_on_failing_is_given_up_after_a_few_tries(connect) -> None:
    client, server = connect(*[httpx.Response(500, json={}) for _ in range(9)])
    with pytest.raises(HordeUnreachable, match="api_key"):
        await client.submit(DONE)
    assert len(server.requests) == HASTY.tries


@pytest.mark.parametrize("failure", [LOST, *(httpx.Response(status) for status in (502, 503, 504, 522))], ids=str)
async def test_a_dead_line_or_gateway_is_tried_for_longer_than_a_failing_server(connect, failure: Any) -> None:
    client, server = connect(*[failure] * (HASTY.tries * 2), {"reward": 1.0})
    assert (await client.submit(DONE)).reward == 1.0
    assert len(server.requests) == HASTY.tries * 2 + 1


async def test_no_submit_is_repeated_past_the_deadline(connect) -> None:
    client, server = connect(LOST, {"reward": 1.0})
    with pytest.raises(HordeUnreachable):
        await client.submit(DONE, deadline=asyncio.get_running_loop().time())
    assert len(server.requests) == 1


async def test_a_late_submit_is_still_tried_once(connect) -> None:
    client, _ = connect({"reward": 4.0})
    assert (await client.submit(DONE, deadline=asyncio.get_running_loop().time() - 60)).reward == 4.0


async def test_a_wait_that_ends_past_the_deadline_is_not_begun(connect) -> None:
    client, server = connect(httpx.Response(429, json={}, headers={"Retry-After": "3000"}))
    with pytest.raises(HordeBusy):
        await client.submit(DONE, deadline=asyncio.get_running_loop().time() + 5)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        refused(404, "InvalidJobID"),
        refused(403, "WrongCredentials"),
        httpx.Response(400, json={"errors": {"seed": "'12' is not of type 'integer'"}}),
    ],
)
async def test_a_final_no_to_a_submit_is_not_repeated(connect, answer: httpx.Response) -> None:
    client, server = connect(answer)
    with pytest.raises((JobGone, HordeRefused)):
        await client.submit(DONE)
    assert len(server.requests) == 1


async def test_find_user_tells_whose_key_it_is(connect) -> None:
    client, server = connect(SERVER_ERROR, {"username": "owner#1", "id": 1, "trusted": True, "new": None})
    user = await client.find_user()
    assert (user.username, user.trusted) == ("owner#1", True)
    assert [request.url.path for request in server.requests] == ["/api/v2/find_user"] * 2


async def test_a_key_nobody_knows_is_refused(connect) -> None:
    client, _ = connect(refused(404, "UserNotFound"))
    with pytest.raises(HordeRefused, match="api_key"):
        await client.find_user()


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), [1], {"id": "x"}])
async def test_a_user_that_can_not_be_read_is_unreachable(connect, answer: Any) -> None:
    client, server = connect(answer, *[httpx.Response(200, json=[]) for _ in range(9)])
    with pytest.raises(HordeUnreachable):
        await client.find_user()
    assert len(server.requests) == HASTY.tries


@pytest.mark.parametrize("name", ["../../etc/x", "..", ".", "a/b"])
async def test_a_name_that_no_address_can_hold_is_told_as_that(connect, name: str) -> None:
    client, server = connect(*(httpx.Response(404, text="<html>Not Found") for _ in range(HASTY.tries)))
    with pytest.raises(HordeRefused, match="name has a slash"):
        await client.worker_by_name(name)
    path = server.requests[0].url.raw_path.decode()
    assert path.startswith("/api/v2/workers/name/")
    assert "/" not in path.removeprefix("/api/v2/workers/name/")


@pytest.mark.parametrize("seconds", ["999999", "99999999999999999999"])
async def test_no_time_out_of_an_address_is_longer_than_an_hour(connect, pop_request: PopRequest, seconds: str) -> None:
    client, _ = connect(refused(403, "TimeoutIP", f"for {seconds} more seconds"))
    with pytest.raises(HordeBusy) as caught:
        await client.pop(pop_request)
    assert caught.value.retry_after_s == 3600.0


async def test_an_answer_that_is_compressed_though_nobody_asked_is_none(connect, pop_request: PopRequest) -> None:
    bomb = httpx.Response(200, headers={"Content-Encoding": "gzip, gzip"}, stream=Breaking(b"x"))
    client, server = connect(bomb)
    with pytest.raises(HordeUnreachable, match="compressed"):
        await client.pop(pop_request)
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_worker_is_looked_up_by_any_name(connect) -> None:
    client, server = connect({"id": "w1", "name": "my/worker ü?", "maintenance_mode": True})
    worker = await client.worker_by_name("my/worker ü?")
    assert worker is not None
    assert (worker.id, worker.maintenance_mode) == ("w1", True)
    assert server.requests[0].url.raw_path == b"/api/v2/workers/name/my%2Fworker%20%C3%BC%3F"


async def test_a_worker_that_never_popped_is_none(connect) -> None:
    client, _ = connect(refused(404, "WorkerNotFound"))
    assert await client.worker_by_name("new") is None


async def test_another_refusal_of_a_look_up_is_not_taken_for_a_new_worker(connect) -> None:
    client, _ = connect(refused(401, "InvalidAPIKey"))
    with pytest.raises(HordeRefused):
        await client.worker_by_name("new")


@pytest.mark.parametrize(
    ("on", "message", "body"),
    [
        (True, "back soon", {"maintenance": True, "maintenance_msg": "back soon"}),
        (True, "", {"maintenance": True}),
        (False, "ignored", {"maintenance": False}),
    ],
)
async def test_maintenance_is_switched(connect, on: bool, message: str, body: dict[str, Any]) -> None:
    client, server = connect({"maintenance": on})
    await client.set_maintenance("w1", on, message)
    (sent,) = server.requests
    assert (sent.method, sent.url.path, server.bodies) == ("PUT", "/api/v2/workers/w1", [body])


async def test_maintenance_of_another_owners_worker_is_refused(connect) -> None:
    client, _ = connect(refused(403, "NotOwner"))
    with pytest.raises(HordeRefused):
        await client.set_maintenance("w1", on=True)


async def test_requests_beyond_the_limit_wait_their_turn(connect, pop_request: PopRequest, monkeypatch) -> None:
    waits: list[float] = []

    async def note(wait_s: float) -> None:
        waits.append(wait_s)

    client, _ = connect(JOB, JOB, JOB, limits=dataclasses.replace(HASTY_LIMITS, pops_per_s=2))
    monkeypatch.setattr("worker.horde.client.asyncio.sleep", note)
    for _ in range(3):
        await client.pop(pop_request)
    assert waits[:2] == [0.0, 0.0]
    assert 0.0 < waits[2] <= 1.0


@pytest.mark.parametrize(
    ("url", "key", "agent"),
    [
        ("aihorde.net/api", KEY, AGENT),
        ("file:///tmp", KEY, AGENT),
        ("https://horde.invalid", "", AGENT),
        ("https://horde.invalid", "s3cret\n", AGENT),
        ("https://horde.invalid", "schlüssel", AGENT),
        ("https://horde.invalid", KEY, "a\r\nb"),
    ],
)
def test_settings_that_can_not_be_sent_are_refused_without_showing_the_key(url: str, key: str, agent: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HordeClient(url, key, agent=agent)
    assert not key or key.strip() not in str(caught.value)


async def test_an_own_client_is_closed_and_keeps_proxies_away_from_this_machine(monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    for url, through_proxy in [("http://127.0.0.1:7001/api", False), ("https://horde.invalid/api", True)]:
        client = HordeClient(url, KEY, agent=AGENT)
        assert {each._clients[0].trust_env for each in (client._pops, client._others, client._stored)} == {
            through_proxy
        }
        await client.aclose()
        assert client._pops._clients[0].is_closed
        assert client._stored._clients[0].is_closed
