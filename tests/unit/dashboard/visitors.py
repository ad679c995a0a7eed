"""Somebody with a browser, or a program, before the page of a worker that stands still."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.unit.status.rig import Rig
from worker.config.editing import Editor
from worker.config.load import load_config
from worker.dashboard.security import Guard
from worker.dashboard.server import application
from worker.dashboard.sessions import Attempts, Sessions

TOKEN = "a-token-of-the-owner-himself"
HERE = "http://127.0.0.1:7861"
CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')


@dataclass
class Page:
    """The application over a rig, with the owner's settings in a folder."""

    folder: Path
    rig: Rig = field(default_factory=lambda: Rig().serve())
    guard: dict[str, Any] = field(default_factory=dict)
    token: str = TOKEN

    def __post_init__(self) -> None:
        self.settings = self.folder / "bridgeData.yaml"
        self.settings.write_text("# mine\ndreamer_name: me\nmax_power: 8  # small\nnsfw: true\n", encoding="utf-8")
        self.now = 0.0
        self.sessions = Sessions(self.token, "a key that signs")
        self.attempts = Attempts(lambda: self.now)
        editor = Editor(lambda text: load_config(self.settings, environment={}, text=text))
        guard = Guard(self.sessions, self.attempts, **self.guard)
        self.app = application(self.rig.board, guard, editor=editor)

    @asynccontextmanager
    async def browser(
        self, *, at: str = HERE, address: str = "127.0.0.1", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator["Browser"]:
        """A browser that has not signed in."""
        transport = httpx.ASGITransport(self.app, client=(address, 5000))
        sent = {"accept": "text/html", **(headers or {})}
        async with httpx.AsyncClient(transport=transport, base_url=at, headers=sent) as client:
            yield Browser(client)


@dataclass
class Browser:
    """Keeps cookies, and fills in forms."""

    http: httpx.AsyncClient

    async def sign_in(self) -> httpx.Response:
        return await self.http.get(f"/sign-in?token={TOKEN}")

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)

    async def csrf(self) -> str:
        found = CSRF.search((await self.http.get("/")).text)
        assert found is not None
        return found[1]

    async def post(self, path: str, fields: Mapping[str, Any] | None = None, **options: Any) -> httpx.Response:
        """A form of the page itself, sent as a browser sends it: without an origin, which the page's policy hides."""
        data = {"csrf": await self.csrf(), **(fields or {})}
        headers = {"origin": "null", "sec-fetch-site": "same-origin", **options.pop("headers", {})}
        return await self.http.post(path, data=data, headers=headers, **options)
