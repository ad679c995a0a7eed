"""A client of a scripted Horde, and a pop to send it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.unit.horde.scripted import AGENT, HASTY_LIMITS, KEY, Script
from worker.horde.client import HordeClient
from worker.horde.limits import Limits
from worker.horde.messages import PopRequest


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., tuple[HordeClient, Script]]]:
    """`connect(answer, …, limits=…)`: a client of a server that gives these answers."""
    opened: list[HordeClient] = []

    def _connect(*answers: Any, limits: Limits = HASTY_LIMITS) -> tuple[HordeClient, Script]:
        script = Script(list(answers))
        transport = httpx.MockTransport(script)
        client = HordeClient("https://horde.invalid/api/", KEY, agent=AGENT, limits=limits, transport=transport)
        opened.append(client)
        return client, script

    yield _connect
    for client in opened:
        await client.aclose()


@pytest.fixture
def pop_request() -> PopRequest:
    return PopRequest(
        name="a worker",
        priority_usernames=["db0#1"],
        nsfw=True,
        models=["stable_diffusion"],
        bridge_agent=AGENT,
        threads=1,
        require_upfront_kudos=False,
        amount=1,
        extra_slow_worker=False,
        max_pixels=512 * 512,
        blacklist=[],
        allow_img2img=True,
        allow_painting=True,
        allow_unsafe_ipaddr=True,
        allow_post_processing=True,
        allow_controlnet=False,
        allow_sdxl_controlnet=False,
        allow_lora=True,
        limit_max_steps=False,
    )
