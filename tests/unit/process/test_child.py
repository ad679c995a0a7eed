"""The end of child processes."""

import asyncio
import signal
import subprocess
import sys

import pytest

from worker.process.child import end_child


@pytest.mark.parametrize(("timeout_s", "end"), [(60.0, signal.SIGTERM), (0.0, signal.SIGKILL)])
async def test_how_a_child_ended_is_asked_by_the_event_loop_alone(monkeypatch, timeout_s, end):
    """Whoever asks first takes the answer away: the loop then warns of an unknown child and takes it for 255."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    asked = []
    monkeypatch.setattr(subprocess.Popen, "poll", asked.append)
    await end_child(child, timeout_s=timeout_s, name="sleeper")
    assert child.returncode == -end
    assert asked == []
