"""What an owner sees while uv works."""

import pytest

from worker.engine.install.shell import describe

LINES = [
    "Resolved 84 packages in 1.20s",
    "Downloading torch (800.0MiB)",
    "Downloading numpy (16.0MiB)",
    "Downloading scipy (33.5MiB)",
    "Downloading aiohttp (900.5KiB)",
]


def test_what_is_downloaded_how_much_of_how_much_and_how_long_it_may_take():
    lines = [*LINES, " Downloaded numpy", " Downloaded scipy"]
    assert describe(lines, 10.0) == "  10 s  52 of 892 MB; downloading torch, aiohttp; about 3 min left"


def test_before_there_is_ground_for_an_estimate_there_is_none():
    assert describe(LINES, 3.0) == "   3 s  0 of 892 MB; downloading torch, scipy and 2 more"


@pytest.mark.parametrize(
    ("lines", "phase"),
    [
        ([], "working"),
        (["Resolved 84 packages in 1.2s"], "looking for packages and downloading"),
        ([*LINES[:2], " Downloaded torch", "Prepared 1 package in 3s"], "downloaded; linking files"),
        (["garbage (12MiB)", "Downloading x (?)"], "working"),
    ],
)
def test_the_phases_between_have_a_name(lines, phase):
    assert describe(lines, 7.0) == f"   7 s  {phase}"
