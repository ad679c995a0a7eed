"""What others may try against the page, each attempt with its end."""

import ipaddress
import string

import httpx
import pytest

from tests.unit.dashboard.visitors import HERE, TOKEN, Page
from worker.dashboard.security import MOST_BODY_BYTES
from worker.dashboard.sessions import BURST, Sessions, announcing_token, customer

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def page(tmp_path):
    return Page(tmp_path)


@pytest.fixture
async def owner(page):
    async with page.browser() as browser:
        await browser.sign_in()
        yield browser


@pytest.fixture
async def stranger(page):
    async with page.browser() as browser:
        yield browser


# Names and origins


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7861", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b",
     "127.0.0.1@evil", "localhost:7861/", "[::1", "0x7f.1", "127.1", "localhost:7861:1", "localhost\x00"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/sign-in", "/api/status", "/static/page.js", "/healthz"])
async def test_a_name_that_somebody_has_led_here_is_not_served(owner, host, path):
    """DNS rebinding: a stranger's name that resolves to this machine makes its page one of ours, for the browser."""
    answer = await owner.get(path, headers={"host": host, "authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 421
    assert "csrf" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:7861", "localhost:1", "[::1]:7861", "192.168.1.5", "LOCALHOST:7861"])
async def test_this_machines_own_names_and_addresses_are_served(stranger, host):
    assert (await stranger.get("/sign-in", headers={"host": host})).status_code == 200


async def test_a_name_that_the_owner_lists_is_served(tmp_path):
    page = Page(tmp_path, guard={"names": frozenset({"worker.example"})})
    async with page.browser() as browser:
        assert (await browser.get("/sign-in", headers={"host": "worker.example"})).status_code == 200
        assert (await browser.get("/sign-in", headers={"host": "other.example"})).status_code == 421


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:7861",
        "http://127.0.0.1:3000",
        "http://127.0.0.1",
        "file://",
        "http://",
    ],
)
async def test_a_form_on_a_page_of_somebody_elses_changes_nothing(page, owner, origin):
    answer = await owner.post("/steer/pause", {"minutes": "60"}, headers={"origin": origin})
    assert answer.status_code == 403
    assert not page.rig.board.steering.pause_state.is_on


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("origin", ["null", HERE])
async def test_what_the_browser_says_comes_from_elsewhere_changes_nothing(page, owner, site, origin):
    answer = await owner.post("/steer/pause", {}, headers={"origin": origin, "sec-fetch-site": site})
    assert answer.status_code == 403
    assert not page.rig.board.steering.pause_state.is_on


async def test_another_page_can_neither_fetch_nor_embed_anything(owner):
    for mode, destination in (("cors", "empty"), ("no-cors", "script"), ("no-cors", "image"), ("navigate", "iframe")):
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": destination}
        assert (await owner.get("/api/status", headers=headers)).status_code == 403
    answer = await owner.get("/", headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


async def test_a_link_from_elsewhere_leads_to_the_page_and_not_to_the_door(stranger):
    """Browsers leave out the cookie of a link from elsewhere: one step of our own brings it along."""
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    answer = await stranger.get("/jobs", headers=headers)
    assert (answer.status_code, 'http-equiv="refresh"' in answer.text) == (200, True)
    assert (await stranger.get("/jobs", headers=headers | {"sec-fetch-site": "same-origin"})).status_code == 303


# Forms


@pytest.mark.parametrize("csrf", [None, "", "0" * 64, "é"])
@pytest.mark.parametrize(
    "path",
    ["/steer/pause", "/steer/finish", "/steer/maintenance-on", "/settings", "/sign-out", "/api/pause", "/api/finish"],
)
async def test_a_form_without_what_only_our_page_knows_changes_nothing(page, owner, path, csrf):
    fields = {"max_power": "64", "shown": "max_power"} | ({} if csrf is None else {"csrf": csrf})
    answer = await owner.http.post(path, data=fields, headers={"origin": HERE})
    assert answer.status_code == 403
    assert not page.rig.board.steering.pause_state.is_on
    assert not page.rig.stop.is_set()
    assert "max_power: 8 " in page.settings.read_text(encoding="utf-8")
    assert (await owner.get("/")).status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
async def test_a_session_takes_no_other_kind_of_body(page, owner, kind):
    body = f'{{"csrf": "{await owner.csrf()}"}}'.encode()
    answer = await owner.http.post("/steer/pause", content=body, headers={"content-type": kind, "origin": HERE})
    assert answer.status_code == 415
    assert not page.rig.board.steering.pause_state.is_on


async def test_the_secret_of_one_sessions_forms_is_worth_nothing_in_another(page, owner):
    async with page.browser() as other:
        await other.sign_in()
        theirs = await other.csrf()
    answer = await owner.http.post("/steer/pause", data={"csrf": theirs}, headers={"origin": HERE})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/steer/pause", "/steer/finish", "/sign-out"])
async def test_a_link_can_not_take_a_step(page, owner, path):
    assert (await owner.get(path)).status_code == 405
    assert not page.rig.stop.is_set()


# The token and sessions


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é", "a" * 10_000])
async def test_a_wrong_token_opens_nothing(stranger, token):
    answer = await stranger.http.post("/sign-in", data={"token": token}, headers={"origin": HERE})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert (await stranger.get("/")).headers["location"] == "/sign-in"
    assert (await stranger.get("/api/status", headers={"accept": "*/*"})).status_code == 401


async def test_guessing_is_slowed_down_and_the_owner_is_let_in_after_a_while(page, stranger):
    codes = [
        (await stranger.http.post("/sign-in", data={"token": f"guess {number}"}, headers={"origin": HERE})).status_code
        for number in range(BURST + 5)
    ]
    assert codes == [403] * BURST + [429] * 5
    refused = await stranger.sign_in()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) <= 10
    page.now += int(refused.headers["retry-after"])
    assert (await stranger.sign_in()).status_code == 303


async def test_programs_that_guess_are_slowed_down_too(stranger):
    headers = {"authorization": "Bearer guess", "accept": "*/*"}
    codes = [(await stranger.get("/api/status", headers=headers)).status_code for _ in range(BURST + 2)]
    assert codes == [401] * BURST + [429] * 2


async def test_who_has_a_token_that_nobody_can_guess_is_never_kept_out_by_others_mistakes(tmp_path):
    token = string.ascii_letters
    page = Page(tmp_path, token=token)
    async with page.browser() as browser:
        for _ in range(BURST + 5):
            wrong = await browser.get("/metrics", headers={"authorization": "Bearer old", "accept": "*/*"})
        assert wrong.status_code == 429
        assert (await browser.get("/metrics", headers={"authorization": f"Bearer {token}"})).status_code == 200
        assert (await browser.get(f"/sign-in?token={token}")).status_code == 303


async def test_a_long_token_of_few_different_characters_can_be_guessed_all_the_same(tmp_path):
    token = "abcdef" * 10
    async with Page(tmp_path, token=token).browser() as browser:
        codes = [(await browser.get(f"/sign-in?token={'abc' * tries}")).status_code for tries in range(BURST)]
        assert codes == [403] * BURST
        assert (await browser.get(f"/sign-in?token={token}")).status_code == 429


async def test_those_who_guess_keep_nobody_out_at_another_address_or_with_a_session(page, owner):
    async with page.browser(address="192.168.1.66") as attacker:
        for number in range(BURST + 50):
            await attacker.http.post("/sign-in", data={"token": str(number)}, headers={"origin": HERE})
    assert (await owner.get("/")).status_code == 200
    async with page.browser(address="192.168.1.67") as second, page.browser() as third:
        assert (await second.sign_in()).status_code == 303
        assert (await third.sign_in()).status_code == 303


async def test_many_addresses_are_no_way_to_guess_more(page):
    codes = []
    for number in range(300):
        async with page.browser(address=f"2001:db8:{number:x}::1") as attacker:
            answer = await attacker.http.post("/sign-in", data={"token": "guess"}, headers={"origin": HERE})
            codes.append(answer.status_code)
    assert codes.count(403) <= 100
    async with page.browser() as owner:
        assert (await owner.sign_in()).status_code == 303


async def test_the_addresses_of_one_customer_count_as_one(page):
    codes = []
    for number in range(BURST + 3):
        async with page.browser(address=f"2001:db8::{number:x}") as attacker:
            answer = await attacker.http.post("/sign-in", data={"token": "guess"}, headers={"origin": HERE})
            codes.append(answer.status_code)
    assert codes[-3:] == [429] * 3


async def test_a_session_that_a_browser_brings_along_is_not_taken_over(page, stranger):
    """Session fixation: who plants a cookie must not know the session that the owner then has."""
    planted = f"planted.{9_999_999_999}.{'0' * 64}"
    stranger.http.cookies.set(page.sessions.cookie, planted, domain="127.0.0.1")
    assert (await stranger.get("/")).headers["location"] == "/sign-in"
    answer = await stranger.sign_in()
    value = answer.headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert not value.startswith("planted")
    async with page.browser() as second:
        again = (await second.sign_in()).headers["set-cookie"].split("=", 1)[1].split(";")[0]
    assert again != value


@pytest.mark.parametrize("change", ["id", "end", "signature", "none", "long", "dots"])
async def test_a_session_that_was_tampered_with_is_none(page, stranger, change):
    id_, end, signature = page.sessions.begin().split(".")
    value = {
        "id": f"other.{end}.{signature}",
        "end": f"{id_}.{int(end) + 1}.{signature}",
        "signature": f"{id_}.{end}.{'0' * 64}",
        "none": f"{id_}.{end}.",
        "long": "a" * 100_000,
        "dots": "....",
    }[change]
    answer = await stranger.get("/", headers={"cookie": f"{page.sessions.cookie}={value}"})
    assert answer.headers["location"] == "/sign-in"


async def test_a_session_of_another_worker_or_of_another_token_is_none(page, stranger):
    for other in (Sessions("another token of his", "a key that signs"), Sessions(TOKEN, "another key")):
        answer = await stranger.get("/", headers={"cookie": f"{page.sessions.cookie}={other.begin()}"})
        assert answer.headers["location"] == "/sign-in"


async def test_a_session_ends_after_its_time_and_when_its_owner_signs_out(page, owner):
    old = Sessions(TOKEN, "a key that signs", wall=lambda: 0.0).begin()
    async with page.browser(headers={"cookie": f"{page.sessions.cookie}={old}"}) as browser:
        assert (await browser.get("/")).headers["location"] == "/sign-in"
    stolen = owner.http.cookies[page.sessions.cookie]
    assert (await owner.post("/sign-out")).headers["location"] == "/sign-in"
    async with page.browser(headers={"cookie": f"{page.sessions.cookie}={stolen}"}) as thief:
        assert (await thief.get("/")).headers["location"] == "/sign-in"


async def test_the_cookie_is_for_this_page_alone(stranger):
    cookie = (await stranger.sign_in()).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert "secure" not in cookie
    assert "domain" not in cookie


async def test_the_cookie_is_secure_under_https(tmp_path):
    page = Page(tmp_path, guard={"secure": True})
    async with page.browser(at="https://127.0.0.1:7861") as browser:
        assert "secure" in (await browser.sign_in()).headers["set-cookie"].lower()


async def test_the_token_of_the_link_is_gone_from_the_address_after_the_first_step(owner, stranger):
    answer = await stranger.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert TOKEN not in answer.text


async def test_what_workers_show_to_be_listed_opens_nothing_else(stranger):
    headers = {"authorization": f"Bearer {announcing_token(TOKEN)}", "accept": "*/*"}
    for path in ("/api/status", "/metrics", "/", "/api/history"):
        assert (await stranger.get(path, headers=headers)).status_code in {401, 429}
    assert (await stranger.http.post("/api/pause", headers=headers)).status_code in {401, 429}


async def test_no_page_holds_a_secret(page, owner):
    key = page.sessions.cookie
    for path in ("/", "/jobs", "/models", "/settings", "/log", "/workers", "/api/status"):
        text = (await owner.get(path)).text
        assert TOKEN not in text
        assert owner.http.cookies[key] not in text
        assert "api_key" not in text


# Requests of strange shapes


@pytest.mark.parametrize(
    "name",
    ["../page.css", "..%2fsessions.py", "%2e%2e/%2e%2e/server.py", "....//server.py", "/etc/passwd", "page.css%00.svg",
     "..\\sessions.py", "page.css/", ".", "%252e%252e%252fserver.py"],
)  # fmt: skip
async def test_no_other_file_is_found_by_a_path_that_climbs(owner, name):
    answer = await owner.get(f"/static/{name}")
    assert answer.status_code in {404, 400, 307}
    assert "import" not in answer.text


@pytest.mark.parametrize("size", [MOST_BODY_BYTES + 1, 10_000_000])
@pytest.mark.parametrize("path", ["/sign-in", "/settings", "/api/pause", "/steer/pause"])
async def test_a_body_that_is_too_large_is_not_read(owner, path, size):
    answer = await owner.http.post(path, content=b"a" * size, headers={**FORM, "origin": HERE})
    assert answer.status_code == 413


async def test_a_body_without_a_length_is_read_no_further_than_the_bound(owner):
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 4096
            yield b"a" * 4096

    answer = await owner.http.post("/settings", content=endless(), headers={**FORM, "origin": HERE})
    assert answer.status_code == 413
    assert taken <= 2 * MOST_BODY_BYTES


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "x"])
async def test_a_length_that_is_none_is_refused(owner, length):
    headers = {**FORM, "origin": HERE, "content-length": length}
    assert (await owner.http.post("/settings", content=b"", headers=headers)).status_code == 413


async def test_a_form_of_countless_fields_is_refused(owner):
    body = b"&".join(b"a=1" for _ in range(5000))
    answer = await owner.http.post("/settings", content=body, headers={**FORM, "origin": HERE})
    assert answer.status_code == 400


@pytest.mark.parametrize("value", ["a%0d%0aSet-Cookie:%20evil=1", "a\u2028b", "%0aLocation:%20http://evil"])
async def test_a_line_break_in_what_is_sent_begins_no_header(owner, value):
    for path in (f"/jobs?model={value}", f"/sign-in?token={value}", f"/jobs/{value}", f"/{value}"):
        answer = await owner.get(path)
        assert "evil" not in answer.headers.get("set-cookie", "")
        assert "evil" not in answer.headers.get("location", "")


async def test_nobody_is_led_to_another_site(owner, stranger):
    for path in ("//evil.example", "/\\evil.example", "/sign-in?next=//evil.example", "/http://evil.example"):
        for browser in (owner, stranger):
            location = (await browser.get(path)).headers.get("location", "/")
            assert location in {"/", "/sign-in"} or location.startswith("http://127.0.0.1:7861/")


@pytest.mark.parametrize("page_number", ["-1", "0", "x", "1e9", "٣", "9" * 50, "9999999"])
async def test_a_page_number_that_makes_no_sense_is_the_first_or_an_empty_one(owner, page_number):
    assert (await owner.get("/jobs", params={"page": page_number})).status_code == 200


async def test_what_clients_say_of_their_address_and_scheme_is_believed_of_listed_proxies_alone(tmp_path):
    page = Page(tmp_path, guard={"proxies": (ipaddress.ip_network("10.0.0.1/32"),), "names": frozenset({"w.example"})})
    told = {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "w.example"}
    async with page.browser(address="192.168.1.66", headers=told) as liar:
        assert "secure" not in (await liar.sign_in()).headers["set-cookie"].lower()
    async with page.browser(address="192.168.1.66", headers=told) as liar:
        codes = []
        for number in range(BURST + 1):
            liar.http.headers["x-forwarded-for"] = f"10.9.9.{number}"
            answer = await liar.http.post("/sign-in", data={"token": "x"}, headers={"origin": HERE})
            codes.append(answer.status_code)
        assert codes[-1] == 429
    async with page.browser(address="10.0.0.1", headers=told | {"host": "10.0.0.2:7861"}) as through_proxy:
        assert "secure" in (await through_proxy.sign_in()).headers["set-cookie"].lower()


# What every answer says to the browser


@pytest.mark.parametrize("path", ["/", "/sign-in", "/static/page.js", "/nothing", "/api/status", "/healthz", "/jobs/x"])
async def test_every_answer_forbids_a_browser_what_the_page_does_not_need(owner, path):
    headers = (await owner.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


async def test_refusals_carry_the_same_headers(stranger):
    for answer in (
        await stranger.get("/", headers={"host": "evil.example"}),
        await stranger.get("/api/status", headers={"accept": "*/*"}),
        await stranger.http.post("/steer/pause"),
    ):
        assert answer.status_code >= 400
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


async def test_pages_are_not_kept_by_browsers_and_proxies(owner):
    assert (await owner.get("/")).headers["cache-control"] == "no-store"
    assert isinstance(await owner.get("/static/page.css"), httpx.Response)


async def test_an_address_without_a_page_leads_back_to_those_there_are(owner, stranger):
    for path, code in (("/nothing", 404), ("/jobs/x/y/z", 404), ("/steer/pause", 405)):
        answer = await owner.get(path)
        assert answer.status_code == code
        assert 'href="/jobs"' in answer.text
        assert (await owner.get(path, headers={"accept": "*/*"})).text == "Nothing is at this address.\n"
    assert (await owner.get("/steer/pause")).headers["allow"] == "POST"
    assert (await stranger.get("/nothing")).status_code == 303


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_of_two_lengths_is_refused(owner, method):
    """Smuggling: a proxy that goes by the one length and a server by the other disagree on where the next begins."""
    headers = {**FORM, "origin": HERE, "content-length": "0", "transfer-encoding": "chunked"}
    answer = await owner.http.request(method, "/healthz", headers=headers)
    assert (answer.status_code, answer.headers["connection"]) == (400, "close")


async def test_a_session_is_found_among_the_cookies_of_other_programs_on_this_machine(page, stranger):
    """Browsers send a host's cookies to all of its ports."""
    others = "; ".join(f"dev_{number}={'x' * 500}" for number in range(20))
    cookie = f"{others}; {page.sessions.cookie}={page.sessions.begin()}"
    assert (await stranger.get("/", headers={"cookie": cookie})).status_code == 200


async def test_the_addresses_of_one_customer_share_what_he_may_take():
    assert customer("2001:db8::1") == customer("2001:db8::ffff:1") != customer("2001:db8:0:1::1")
    assert customer("::ffff:192.168.1.5") == customer("192.168.1.5") != customer("192.168.1.6")
    assert customer("::1") != customer("::2")
    assert customer("not an address") == "not an address"
