"""Browsers of a soak see what a page refuses, and know when the worker is to be gone."""

import asyncio
from pathlib import Path

import pytest

from worker.aio import timeout
from worker.dashboard.whereabouts import announced

from .browsers import Browsers
from .rig import PATIENCE_S, Rig

pytestmark = pytest.mark.chaos
#: A page that answers whoever signs in, but has no events and no jobs.
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(BROKEN)
    writer.close()


async def asked(browsers: Browsers, server: asyncio.Server) -> None:
    """Until somebody has asked the page and got its answer."""
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with announced(browsers.base / "w", name="w", url=url, token="t"):
        async with browsers.looking(), timeout(PATIENCE_S):
            while not browsers.failures:
                await asyncio.sleep(0.02)


async def test_a_page_that_fails_and_one_that_is_not_there_are_failures(tmp_path: Path) -> None:
    browsers = Browsers(tmp_path, 1)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    await asked(browsers, server)
    assert all("500" in failure for failure in browsers.failures)

    server.close()
    await server.wait_closed()
    browsers = Browsers(tmp_path, 1)
    with announced(tmp_path / "w", name="w", url="http://127.0.0.1:1", token="t"):
        async with browsers.looking(), timeout(PATIENCE_S):
            while not browsers.failures:
                await asyncio.sleep(0.02)
    assert all(failure.startswith("ConnectError") for failure in browsers.failures)


async def test_a_worker_that_ends_while_it_is_looked_at_has_not_failed_and_one_that_is_to_serve_has(rig: Rig) -> None:
    workers = rig.folder / "workers"
    rig.dashboard = workers / "chaos"
    for announced_end in (True, False):
        browsers = Browsers(workers, 2)
        async with browsers.looking():
            async with rig.working():
                await rig.until(lambda: browsers.have_looked)  # noqa: B023 - awaited here
                if announced_end:
                    browsers.worker_ends()
            await rig.until(lambda: announced_end or browsers.failures)  # noqa: B023 - awaited here
        assert bool(browsers.failures) is not announced_end
