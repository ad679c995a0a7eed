"""The soak, in its short form."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from worker.aio import timeout

from .soak import DRAIN_S

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 40


async def test_books_balance_no_good_job_is_lost_and_the_page_answers_among_random_faults_and_hostile_traffic() -> None:
    soak = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.soak", str(SECONDS), "--seed", "1", "--browsers", "3"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with timeout(SECONDS + 2 * DRAIN_S):
        out, words = await soak.communicate()

    balance = json.loads(out.splitlines()[-1])
    assert soak.returncode == 0, words.decode()
    assert balance["popped"] == balance["answered"] > 0
    assert (balance["lost"], balance["duplicate"], balance["leaks"]) == (0, 0, [])
    assert balance["faults_injected"] >= 10
    assert balance["hostile"] > 0
    assert balance["good_delivered"] > 0
    assert balance["good_lost"] == 0
    assert balance["page_answers"] > 0
    assert balance["page_events"] > 0
    assert balance["page_failures"] == {}
