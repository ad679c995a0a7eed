"""A worker behind a SOCKS proxy: everything goes through it but what it says to its own engine."""

import io
from urllib.parse import urlsplit

import pytest
from PIL import Image

from worker.demo.horde.records import ImageRequest, Outcome

from .conftest import MODEL
from .socks import Socks, serving

pytestmark = pytest.mark.e2e


def fox_of_a_picture():
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "WEBP")
    size = {"width": 64, "height": 64, "steps": 2}
    return ImageRequest(prompt="fox", models=(MODEL,), params=size, nsfw=False, source_image=out.getvalue())


@pytest.mark.parametrize(
    ("variable", "scheme", "login"),
    [("ALL_PROXY", "socks5", None), ("http_proxy", "socks5h", None), ("all_proxy", "socks", ("fox", "den"))],
)
def test_a_job_with_a_source_picture_is_done_through_a_socks_proxy(owner, variable, scheme, login):
    port = urlsplit(owner.horde.url).port
    # A name that nobody but the proxy can resolve.
    owner.configure(horde_url=f"http://horde.example:{port}/api/")
    owner.play()
    with serving(Socks(login)) as socks:
        request = owner.horde.state.enqueue(fox_of_a_picture())
        proxy = f"{scheme}://{'fox:den@' if login else ''}{socks.address}"
        owner.start(**{variable: proxy, "NO_PROXY": None, "no_proxy": None})
        owner.done([request])
        assert owner.outcomes() == {Outcome.OK: 1}, owner.output
        owner.signal()
        assert owner.end() == 0, owner.output
    assert set(socks.asked_for) == {f"horde.example:{port}"}
    # No prompt, no websocket: what the engine is told stays on this machine.
    rooms = {first.split(b" ")[1].split(b"/")[1] for first in socks.first_bytes}
    assert rooms == {b"api", b"r2"}
