"""Programs read the status and steer the worker; without the token they get nothing but the probes."""

import asyncio
import json
import socket

import httpx
import pytest

from tests.unit.status.rig import PAUSED, Rig, slot
from worker.dashboard.security import Guard
from worker.dashboard.server import application, listen, serve, url_of
from worker.dashboard.sessions import Sessions
from worker.engine.slot import SlotState
from worker.errors import HordeUnreachable

TOKEN = "a-token-of-the-owner"


@pytest.fixture
async def rig():
    return Rig()


@pytest.fixture
async def http(rig):
    transport = httpx.ASGITransport(application(rig.board, Guard(Sessions(TOKEN, "key"))))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:7861", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        yield client


@pytest.mark.parametrize("path", ["/api/status", "/api/history", "/metrics", "/api/nothing", "/"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", f"Basic {TOKEN}", TOKEN])
async def test_without_the_token_nothing_is_told(http, path, header):
    http.headers.pop("Authorization")
    answer = await http.get(path, headers={} if header is None else {"Authorization": header})
    assert answer.status_code in {401, 403}
    assert "horde_bridge" not in answer.text


async def test_the_status_is_one_object_with_the_version_of_its_form(http, rig):
    rig.serve()
    found = (await http.get("/api/status")).json()
    assert (found["schema"], found["name"], found["phase"]) == (1, "me", "serving")


async def test_the_history_comes_in_parts_and_by_what_is_wanted(http, rig):
    for number in range(5):
        rig.ends(rig.job(str(number), model="Even" if number % 2 == 0 else "Odd"))
    found = (await http.get("/api/history?offset=1&limit=2")).json()
    assert (found["total"], [job["id"] for job in found["jobs"]]) == (5, ["3", "2"])
    assert (await http.get("/api/history?model=Odd")).json()["total"] == 2
    assert (await http.get("/api/history?outcome=faulted")).json()["total"] == 0
    for nonsense in ("offset=-1", "limit=x", "limit=99999999999999", "offset=1e9"):
        assert (await http.get(f"/api/history?{nonsense}")).status_code == 200
    assert len((await http.get("/api/hours?count=3")).json()["hours"]) == 3


async def test_pause_resume_and_finish_steer_the_worker(http, rig):
    rig.serve()
    assert (await http.post("/api/pause", json={"for_s": 600})).json()["phase"] == "paused"
    assert rig.board.steering.pause_state.until == rig.clock.wall() + 600
    assert (await http.post("/api/resume")).json()["phase"] == "serving"
    assert (await http.post("/api/pause")).json()["phase"] == "paused"
    assert (await http.post("/api/finish")).json()["phase"] == "finishing"
    assert rig.stop.is_set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/pause", '{"for_s": "x"}'),
        ("/api/pause", '{"for_s": -1}'),
        ("/api/pause", '{"for_s": true}'),
        ("/api/pause", '{"for_s": null}'),
        ("/api/pause", '{"for_s": NaN}'),
        ("/api/pause", '{"for_s": 1e999}'),
        ("/api/pause", "{"),
        ("/api/pause", "[1]"),
        ("/api/pause", json.dumps({"x": "y" * 5000})),
        ("/api/maintenance", "{}"),
        ("/api/maintenance", '{"on": "yes"}'),
    ],
)
async def test_what_makes_no_sense_changes_nothing(http, rig, path, body):
    answer = await http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert not rig.board.steering.pause_state.is_on
    assert rig.horde.switched == []


async def test_a_step_is_no_page_to_look_at(http):
    assert (await http.get("/api/finish")).status_code == 405


async def test_a_horde_that_does_not_answer_is_told(http, rig, monkeypatch):
    async def fail(_):
        raise HordeUnreachable("no answer")

    monkeypatch.setattr(rig.horde, "worker_by_name", fail)
    answer = await http.post("/api/maintenance", json={"on": True})
    assert (answer.status_code, answer.json()["error"]) == (502, "no answer")


async def test_probes_need_no_token_and_say_whether_jobs_can_be_done(http, rig):
    http.headers.pop("Authorization")

    async def codes():
        rig.clock.now += 1.0
        return [(await http.get(path)).status_code for path in ("/healthz", "/startupz", "/readyz")]

    rig.slots[0] = slot(state=SlotState.STARTING)
    assert await codes() == [200, 503, 503]
    rig.serve()
    rig.slots[0] = slot()
    assert await codes() == [200, 200, 200]
    rig.admission.reasons = (PAUSED,)
    rig.board.steering.pause()
    assert await codes() == [200, 200, 200]
    rig.slots[0] = slot(state=SlotState.RESTING)
    assert await codes() == [200, 200, 503]
    rig.slots[0] = slot()
    rig.board.steering.finish()
    assert await codes() == [200, 200, 503]


async def test_a_port_that_is_taken_makes_way_for_the_next(rig):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port) as listening:
            assert port < listening.getsockname()[1] <= port + 20
    with listen("::1", 0) as listening:
        assert url_of(listening).startswith("http://[::1]:")
    with pytest.raises(OSError, match="assign"):
        listen("203.0.113.7", 0)


async def test_the_server_answers_in_this_event_loop_and_ends_with_its_task(rig):
    listening = listen("127.0.0.1", 0)
    url = url_of(listening)
    serving = asyncio.ensure_future(serve(application(rig.board, Guard(Sessions(TOKEN, "key"))), listening))
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{url}/healthz")).text == "ok\n"
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{url}/healthz")
