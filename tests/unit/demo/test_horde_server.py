"""The embedded Horde on a real socket: a whole job, every fault on the wire, start and stop."""

import io
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from PIL import Image

from worker.demo.horde import hostile
from worker.demo.horde.app import HOSTILE_PICTURES, Latencies
from worker.demo.horde.directory import OWNER_KEY
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import ImageRequest, Outcome
from worker.demo.horde.server import RunningHorde, serve_in_thread

POP = {"name": "w", "models": ["Deliberate"], "bridge_agent": "AI Horde Worker reGen:13.0.0:u", "amount": 5}
FOX = ImageRequest("fox", ("Deliberate",), {"width": 64, "height": 128})


@pytest.fixture
def horde() -> Iterator[RunningHorde]:
    with serve_in_thread() as running:
        yield running


@pytest.fixture
def client(horde: RunningHorde) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=horde.api_url, headers={"apikey": OWNER_KEY}, timeout=5) as client:
        yield client


def pop(client: httpx.Client, **options: Any) -> httpx.Response:
    return client.post("/generate/pop", json=POP, **options)


def webp(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "WEBP")
    return out.getvalue()


def test_a_whole_job_arrives_as_a_picture_of_the_asked_size(horde: RunningHorde, client: httpx.Client) -> None:
    request_id = horde.state.enqueue(FOX)
    popped = pop(client).json()
    assert client.put(popped["r2_upload"], content=webp(64, 128)).status_code == 200
    submitted = client.post("/generate/submit", json={"id": popped["id"], "generation": "R2", "seed": 1})
    assert submitted.json()["reward"] > 0
    horde.state.wait([request_id], timeout_s=5)
    (delivery,) = horde.state.deliveries(request_id)
    assert (delivery.picture().width, delivery.picture().height) == (64, 128)
    status = client.get(f"/generate/status/{request_id}").json()
    assert client.get(status["generations"][0]["img"]).content == webp(64, 128)


def test_a_source_picture_can_be_fetched_and_only_with_its_signature(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(ImageRequest("fox", ("Deliberate",), source_image=webp(64, 32)))
    source = pop(client).json()["source_image"]
    assert Image.open(io.BytesIO(client.get(source).content)).size == (64, 32)
    refused = client.get(source.partition("?")[0])
    assert refused.status_code == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in refused.text


def test_an_upload_to_a_forged_address_is_refused_in_xml(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    refused = client.put(pop(client).json()["r2_upload"] + "0", content=b"x")
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/xml")


def test_a_status_fault_is_a_plain_failure_without_effect(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    horde.faults.inject(Route.POP, Fault(FaultKind.STATUS, status=503))
    horde.faults.inject(Route.POP, Fault(FaultKind.STATUS, status=429, retry_after_s=7))
    assert pop(client).status_code == 503
    busy = pop(client)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    assert horde.state.accounting().popped == 0
    assert pop(client).json()["id"]


@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.RESET, FaultKind.GARBAGE, FaultKind.TRUNCATED])
def test_a_job_whose_answer_was_destroyed_is_on_nobodys_account(
    kind: FaultKind, horde: RunningHorde, client: httpx.Client
) -> None:
    horde.state.enqueue(FOX)
    horde.faults.inject(Route.POP, Fault(kind, after_effect=True))
    try:
        answer = pop(client)
    except httpx.NetworkError:
        assert kind is FaultKind.RESET
    else:
        assert kind is not FaultKind.RESET
        with pytest.raises((httpx.HTTPStatusError, json.JSONDecodeError)):
            answer.raise_for_status().json()
    books = horde.state.accounting()
    assert (len(books.outcomes), len(books.undelivered), books.popped, books.lost) == (1, 1, 0, 0)


def test_a_submit_whose_answer_is_lost_counts_and_its_repetition_is_no_duplicate(
    horde: RunningHorde, client: httpx.Client
) -> None:
    horde.state.enqueue(FOX)
    body = {"id": pop(client).json()["id"], "generation": "R2", "seed": 1}
    horde.faults.inject(Route.SUBMIT, Fault(FaultKind.RESET, after_effect=True))
    with pytest.raises(httpx.NetworkError):
        client.post("/generate/submit", json=body)
    assert client.post("/generate/submit", json=body).json()["rc"] == "DuplicateGen"
    books = horde.state.accounting()
    assert (books.count(Outcome.OK), books.repeats, books.duplicates) == (1, 1, 0)


def test_a_hanging_answer_lets_the_client_time_out(horde: RunningHorde, client: httpx.Client) -> None:
    horde.faults.inject(Route.POP, Fault(FaultKind.HANG, seconds=60))
    with pytest.raises(httpx.ReadTimeout):
        pop(client, timeout=0.1)
    assert pop(client).status_code == 200


def test_a_hanging_answer_ends_in_a_broken_connection(horde: RunningHorde, client: httpx.Client) -> None:
    horde.faults.inject(Route.POP, Fault(FaultKind.HANG, seconds=0.05))
    with pytest.raises(httpx.NetworkError):
        pop(client)


def test_a_dripping_answer_is_true_for_those_who_wait(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    horde.faults.inject(Route.POP, Fault(FaultKind.DRIP, seconds=0.1))
    assert pop(client).json()["ids"]
    assert horde.state.accounting().popped == 1


def test_a_dripping_answer_that_nobody_waits_for_is_undelivered(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    horde.faults.inject(Route.POP, Fault(FaultKind.DRIP, seconds=1))
    with client.stream("POST", "/generate/pop", json=POP) as answer:
        assert answer.status_code == 200
    _until(lambda: bool(horde.state.accounting().undelivered))
    assert horde.state.accounting().popped == 0


def test_an_upload_can_be_refused_as_expired(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    address = pop(client).json()["r2_upload"]
    horde.faults.inject(Route.UPLOAD, Fault(FaultKind.EXPIRED))
    assert client.put(address, content=b"x").status_code == 403
    assert client.put(address, content=b"x").status_code == 200


def test_a_skewed_clock_hands_out_addresses_that_have_expired(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    horde.faults.inject(Route.POP, Fault(FaultKind.CLOCK_SKEW, seconds=-7200))
    popped = pop(client).json()
    assert client.put(popped["r2_upload"], content=b"x").status_code == 403
    assert horde.state.accounting().popped == 1


def test_latencies_hold_answers_back() -> None:
    with serve_in_thread(latency=Latencies(api_s=0.1)) as running, httpx.Client() as client:
        before = time.monotonic()
        client.get(f"{running.api_url}/status/heartbeat")
        assert time.monotonic() - before > 0.09


def test_a_job_for_a_worker_that_went_away_before_the_answer_is_undelivered() -> None:
    with serve_in_thread(latency=Latencies(api_s=0.3)) as running:
        running.state.enqueue(FOX)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{running.api_url}/generate/pop", json=POP, headers={"apikey": OWNER_KEY}, timeout=0.1)
        _until(lambda: bool(running.state.accounting().undelivered))
        assert running.state.accounting().popped == 0


def test_the_books_can_be_read_from_another_process(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    pop(client)
    horde.faults.inject(Route.POP, Fault(FaultKind.STATUS))
    pop(client)
    books = client.get(f"{horde.url}/accounting").json()
    assert (books["popped"], books["open"], books["faults_injected"]) == (1, 1, {"pop/status": 1})


def test_a_body_that_is_no_json_is_refused(client: httpx.Client) -> None:
    answer = client.post("/generate/submit", content=b"{")
    assert (answer.status_code, "rc" in answer.json()) == (400, False)


def test_a_stopped_server_leaves_no_thread_and_no_port_even_while_something_hangs() -> None:
    with serve_in_thread() as running:
        running.faults.inject(Route.POP, Fault(FaultKind.HANG, seconds=600))
        with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=running.api_url) as client:
            pop(client, timeout=0.1)
        running.faults.inject(Route.POP, Fault(FaultKind.HANG, seconds=600))
        hung = socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])))
        hung.sendall(b"POST /api/v2/generate/pop HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    assert _is_closed(hung)
    hung.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "embedded-horde"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.api_url)


def _until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def _is_closed(connection: socket.socket) -> bool:
    """By a farewell or by a reset; anything else is an answer."""
    connection.settimeout(5)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_hostile_answer_brings_the_popped_job_in_its_own_words(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    rewrite = partial(hostile.with_payload, kind="not-a-number")
    fault = Fault(FaultKind.HOSTILE, after_effect=True, rewrite=lambda body: rewrite(json.loads(body)))
    horde.faults.inject(Route.POP, fault)
    popped = json.loads(pop(client).content)
    assert math.isnan(popped["payload"]["cfg_scale"])
    assert horde.state.accounting().outcomes == {popped["id"]: Outcome.OPEN}
    assert not horde.state.accounting().undelivered


def test_a_hostile_answer_leaves_a_pop_without_a_job_as_it_is(horde: RunningHorde, client: httpx.Client) -> None:
    horde.faults.inject(Route.POP, Fault(FaultKind.HOSTILE, after_effect=True, rewrite=lambda _: b"never sent"))
    assert pop(client).json()["ids"] == []


def test_a_hostile_answer_in_the_place_of_a_pop_hands_out_nothing(horde: RunningHorde, client: httpx.Client) -> None:
    horde.state.enqueue(FOX)
    horde.faults.inject(Route.POP, Fault(FaultKind.HOSTILE, rewrite=lambda _: hostile.empty_handed("pause")))
    assert pop(client).headers["retry-after"] == "99999999"
    assert horde.state.accounting().popped == 0


def test_hostile_pictures_come_as_they_stand_and_an_endless_one_until_its_client_leaves(horde: RunningHorde) -> None:
    with httpx.Client(base_url=horde.url, timeout=5, headers={"Connection": "close"}) as client:
        packed = client.get(f"{HOSTILE_PICTURES}packed-once")
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content.startswith(b"\x89PNG")
        with client.stream("GET", f"{HOSTILE_PICTURES}drip") as dripping:
            assert next(dripping.iter_raw()) == b"x"
