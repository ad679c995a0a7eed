"""How much memory an engine holds, where the system does not tell it."""

import errno
import os
from typing import Any

import psutil
import pytest

from worker.engine import process


def test_memory_that_cannot_be_measured_costs_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "/proc/1/statm")

    monkeypatch.setattr(psutil.Process, "memory_info", fail)
    monkeypatch.setattr(psutil.Process, "children", fail)
    assert process._resident_bytes(psutil.Process()) == 0
    assert process._family(os.getpid()) == ()
