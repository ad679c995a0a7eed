import json

import httpx
import pytest

from tests.unit.dashboard.visitors import HERE, TOKEN, Page
from worker.dashboard import workers as announcing
from worker.dashboard.sessions import announcing_token
from worker.dashboard.site import Site
from worker.dashboard.workers import FORGOTTEN_S, MOST_WORKERS, SILENT_S, Workers, read_announcement
from worker.errors import InputRefused

TOLD = {"name": "other", "state": "serving", "busy": 1, "engines": 2, "kudos": 1234.5, "jobs": 7, "faulted": 1}
BEARER = {"authorization": f"Bearer {announcing_token(TOKEN)}"}


@pytest.fixture
async def page(tmp_path):
    return Page(tmp_path)


async def tell(page, address="192.168.1.9", headers=BEARER, **told):
    async with page.browser(address=address, headers={"accept": "*/*"}) as other:
        return await other.http.post("/api/workers", json={**TOLD, **told}, headers=headers)


async def rows(page):
    async with page.browser() as owner:
        await owner.sign_in()
        return (await owner.get("/workers")).text


async def test_a_worker_that_announces_itself_is_listed_with_what_it_earns(page):
    assert (await tell(page, port=7861, scheme="http", open=True)).status_code == 204
    html = await rows(page)
    assert '<a href="http://192.168.1.9:7861/" rel="noreferrer noopener">other</a>' in html
    assert "1\u202f234" in html or "1\u202f235" in html


@pytest.mark.parametrize("bearer", [None, "wrong", "", announcing_token("another")])
async def test_a_stranger_can_not_list_a_worker(page, bearer):
    headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
    assert (await tell(page, headers=headers)).status_code == 401
    assert "other" not in (await rows(page)).split("<table")[1].split("</table>")[0]


@pytest.mark.parametrize(
    "told",
    [
        {"name": ""}, {"name": None, "state": "x"}, {"state": "<b>"}, {"state": 1}, {"jobs": "many"}, {"jobs": -1},
        {"kudos": True}, {"kudos": 1e300}, {"busy": None}, {"engines": [1]}, {"more": {"deep": {}}},
    ],
)  # fmt: skip
async def test_an_announcement_that_makes_no_sense_is_refused(page, told):
    assert (await tell(page, **told)).status_code == 400


def test_an_announcement_is_bounded():
    with pytest.raises(InputRefused):
        read_announcement(json.dumps({**TOLD, "x": "a" * 5000}).encode(), "127.0.0.1", 0.0)
    with pytest.raises(InputRefused):
        read_announcement(b"no json", "127.0.0.1", 0.0)
    assert len(read_announcement(json.dumps({**TOLD, "name": "a" * 999}).encode(), "127.0.0.1", 0.0).name) <= 101


@pytest.mark.parametrize(
    "told",
    [
        {"port": 7861, "scheme": "javascript", "open": True},
        {"port": "7861", "scheme": "http", "open": True},
        {"port": 0, "scheme": "http", "open": True},
        {"port": True, "scheme": "http", "open": True},
        {"port": 7861, "scheme": "http", "open": False},
        {"port": 7861, "scheme": "http", "url": "http://evil.example", "open": "yes"},
    ],
)
async def test_no_link_leads_elsewhere_than_to_the_address_it_speaks_from(page, told):
    assert (await tell(page, **told)).status_code == 204
    html = await rows(page)
    assert "<a" not in html.split("<tbody>")[1].split("</tbody>")[0]


async def test_no_more_workers_are_listed_than_there_is_room_for(page):
    codes = [(await tell(page, name=f"w{number}")).status_code for number in range(MOST_WORKERS + 2)]
    assert codes == [204] * MOST_WORKERS + [409] * 2
    assert (await tell(page, name="w0")).status_code == 204


async def test_who_falls_silent_is_marked_and_then_forgotten(page):
    now = [1000.0]
    workers = Workers(Site(page.rig.board), wall=lambda: now[0])
    workers._heard["other"] = read_announcement(json.dumps(TOLD).encode(), "127.0.0.1", now[0])
    assert [each.silent for each in workers.others()] == [False]
    now[0] += SILENT_S + 1
    assert [each.silent for each in workers.others()] == [True]
    now[0] += FORGOTTEN_S
    assert workers.others() == ()


async def test_one_worker_finds_its_way_to_the_page_of_another(page, tmp_path):
    (tmp_path / "b").mkdir()
    told = announcing.announcement(Page(tmp_path / "b").rig.board)
    transport = httpx.ASGITransport(page.app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=HERE, headers=BEARER) as client:
        assert await announcing._once(client, f"{HERE}/api/workers", {**told, "name": "second"}) == ""
        client.headers["authorization"] = "Bearer old"
        assert await announcing._once(client, f"{HERE}/api/workers", told) == "its token is another"
        client.headers["host"] = "worker.example"
        assert await announcing._once(client, f"{HERE}/api/workers", told) == "it is not served under this name"
    assert "second" in await rows(page)
