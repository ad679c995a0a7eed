"""Browsers and a scraper before a worker's dashboard: for measurements and long runs, where many look at once.

They do what a browser does with the page: sign in by the link's token, hold the stream of events, load pages. Every
answer but 200 is raised, so that whoever runs them says which of them was meant.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

#: Seconds for an answer, and between two events: the page sends one at least every 20 s.
TIMEOUT_S = 60.0
#: What an open page and its owner's programs ask for.
PAGES, FOR_PROGRAMS = ("/", "/jobs"), ("/metrics", "/api/status")


@dataclass
class Seen:
    """How much has come."""

    events: int = 0
    answers: int = 0


@asynccontextmanager
async def signed_in(url: str, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has come by the link to the page at `url`. Raises httpx.HTTPError."""
    async with _client(url) as http:
        (await http.get("/sign-in", params={"token": token})).raise_for_status()
        yield http


async def hold_events(http: httpx.AsyncClient, seen: Seen) -> None:
    """Read the stream of events until the worker ends it. Raises httpx.HTTPError."""
    async with http.stream("GET", "/events") as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            seen.events += line.startswith("data:")


async def load_pages(http: httpx.AsyncClient, seen: Seen, *, every_s: float) -> None:
    """Load what is read of the page again and again, until cancelled. Raises httpx.HTTPError."""
    await _load(http, PAGES, seen, every_s)


async def scrape(url: str, token: str, seen: Seen, *, every_s: float, paths: tuple[str, ...] = FOR_PROGRAMS) -> None:
    """Ask as programs do, with the token, until cancelled. Raises httpx.HTTPError."""
    async with _client(url, {"Authorization": f"Bearer {token}"}) as http:
        await _load(http, paths, seen, every_s)


def _client(url: str, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=TIMEOUT_S, follow_redirects=True)


async def _load(http: httpx.AsyncClient, paths: tuple[str, ...], seen: Seen, every_s: float) -> None:
    while True:
        for path in paths:
            (await http.get(path)).raise_for_status()
            seen.answers += 1
        await asyncio.sleep(every_s)
