"""A whole worker in this process, for every test of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.demo.horde.records import Baseline, ModelFacts
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde

from .rig import MODEL, OTHER, THIRD, Rig


@pytest.fixture
def rig(tmp_path: Path, quick_worker_python: Path) -> Iterator[Rig]:
    state = EmbeddedHorde(models=dict.fromkeys((MODEL, OTHER, THIRD), ModelFacts(Baseline.SD1)), seed=1)
    with serve_in_thread(state) as running:
        yield Rig(running, tmp_path, python=quick_worker_python)
