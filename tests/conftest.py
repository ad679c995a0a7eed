"""Fixtures every kind of test may use."""

import os
from pathlib import Path

import hypothesis
import pytest

# A loaded machine is slow, and slow is no defect here.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The gathered facts (swagger, captured jobs, model lists), where this machine has them; skips elsewhere."""
    folder = Path(os.environ.get("HORDE_REFERENCE_DIR", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"no reference folder at {folder}")
    return folder
