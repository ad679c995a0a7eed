"""A Horde that answers by script, without a network."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from worker.horde.backoff import RetryPolicy
from worker.horde.limits import Limits

KEY = "k3y-of-the-owner"
AGENT = "AI Horde Worker reGen:13.0.0:https://example.invalid/worker"

#: retries at once
HASTY = RetryPolicy(tries=3, within_s=30.0, first_wait_s=0.001, longest_wait_s=0.002)
HASTY_LIMITS = Limits(submit_retry=HASTY, lookup_retry=HASTY, transfer_retry=HASTY)


def refused(status: int, rc: str, message: str = "") -> httpx.Response:
    return httpx.Response(status, json={"message": message, "rc": rc})


@dataclass
class Script:
    """What the server does, request by request; an exception is raised in the place of an answer."""

    answers: list[Any]
    requests: list[httpx.Request] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]
