import asyncio
import io
import sys

import httpx
import pytest

from tests.unit.status.rig import Rig
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.dashboard.reader import Dashboard
from worker.dashboard.server import show_link
from worker.dashboard.whereabouts import TOKEN_FILE, running_workers


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_link_with_its_token_is_for_terminals_alone(monkeypatch, said, is_terminal):
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setattr(sys, "stderr", stream := Stream())
    show_link("http://127.0.0.1:7861", "http://127.0.0.1:7861/sign-in?token=secret")
    assert ("secret" in stream.getvalue()) is is_terminal
    assert "secret" not in "".join(said)
    assert "".join([stream.getvalue(), *said]).startswith("Dashboard: http://127.0.0.1:7861/")


async def reading(tmp_path, **settings):
    rig = Rig().serve()
    dashboard = Dashboard(
        LiveConfig(BridgeData(dreamer_name="me", dashboard_port=0, **settings)), tmp_path / "w" / "me"
    )
    return asyncio.ensure_future(dashboard(rig.board))


async def found(tmp_path):
    for _ in range(200):
        if workers := running_workers(tmp_path / "w"):
            return workers[0]
        await asyncio.sleep(0.05)
    raise AssertionError("the dashboard does not come up")


async def end(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_page_is_there_with_a_token_of_its_own_and_gone_where_it_is_turned_off(tmp_path):
    task = await reading(tmp_path)
    here = await found(tmp_path)
    assert here.token == (tmp_path / "w" / "me" / TOKEN_FILE).read_text(encoding="ascii")
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{here.url}/sign-in")).status_code == 200
    assert here.page
    await end(task)
    task = await reading(tmp_path, dashboard=False)
    here = await found(tmp_path)
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {here.token}"}) as client:
        assert (await client.get(f"{here.url}/")).status_code == 404
        assert (await client.get(f"{here.url}/api/status")).status_code == 200
    assert not here.page
    await end(task)


@pytest.mark.parametrize("is_on", [True, False])
async def test_another_page_is_told_where_this_one_is_unless_it_is_turned_off(tmp_path, monkeypatch, is_on):
    told = asyncio.get_running_loop().create_future()

    async def once(_client, _address, said):
        told.set_result(said["port"])
        return ""

    monkeypatch.setattr("worker.dashboard.workers._once", once)
    settings = {"dashboard_announce_to": "http://127.0.0.1:1", "dashboard_announce_token": "of-the-other-worker"}
    task = await reading(tmp_path, dashboard=is_on, **settings)
    assert bool(await asyncio.wait_for(told, 20)) is is_on
    await end(task)


async def test_sessions_outlive_the_worker_until_they_are_ended(tmp_path):
    task = await reading(tmp_path)
    here = await found(tmp_path)
    async with httpx.AsyncClient() as client:
        await client.get(f"{here.url}/sign-in", params={"token": here.token})
        cookies = dict(client.cookies)
    await end(task)
    task = await reading(tmp_path)
    here = await found(tmp_path)
    async with httpx.AsyncClient(cookies=cookies) as client:
        assert (await client.get(f"{here.url}/")).status_code == 200
    await end(task)


async def test_a_certificate_that_can_not_be_used_is_said_and_the_worker_goes_on(tmp_path, warnings):
    task = await reading(tmp_path, dashboard_certificate=tmp_path / "none.pem")
    await asyncio.wait_for(task, 20)
    assert any("certificate can't be used" in line for line in warnings)
