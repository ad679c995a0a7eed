"""Folders that a runtime had better not lie in."""

from pathlib import Path

import pytest

from worker.engine.install.places import concerns, concerns_here


def told(folder: str, *, windows: bool = False, long_paths: bool = False, wsl: bool = False) -> str:
    return " ".join(concerns(folder, windows=windows, long_paths=long_paths, wsl=wsl))


@pytest.mark.parametrize(
    "folder",
    [
        r"C:\Users\Fox\OneDrive\horde",
        r"C:\Users\Fox\OneDrive - Company\horde",
        "/home/fox/Dropbox/horde",
        "/mnt/g/Google Drive/x",
    ],
)
def test_a_folder_that_is_kept_in_step_with_a_server_is_named(folder: str) -> None:
    assert "upload gigabytes" in told(folder, windows=folder[1] == ":", long_paths=True)


def test_a_path_too_long_for_windows_is_named_unless_long_paths_are_on() -> None:
    folder = "C:\\" + "x" * 92
    assert "95 characters, and Windows allows 94 here" in told(folder, windows=True)
    assert told(folder, windows=True, long_paths=True) == ""
    assert told(folder) == ""
    assert told("C:\\horde\\runtime", windows=True) == ""


def test_network_drives_and_disks_of_windows_within_wsl_are_named() -> None:
    assert "network drive" in told(r"\\nas\horde", windows=True)
    assert "ten times slower" in told("/mnt/c/horde", wsl=True)
    assert told("/mnt/c/horde") == ""
    assert told("/mnt/data/horde", wsl=True) == ""


@pytest.mark.parametrize(
    "folder",
    [
        "/home/fox/.cache/uv/archive-v0/sK1yp9ghenxY67Xa/horde-bridge",
        "/data/cache/environments-v2/8a1/horde-bridge",
        r"C:\Users\Fox\AppData\Local\uv\cache\archive-v0\sK1yp9ghenxY67Xa\horde-bridge",
        "/home/fox/.cache/pipx/b15d9f6db3ece02/horde-bridge",
        "/home/fox/.local/pipx/.cache/b15d9f6db3ece02/horde-bridge",
        r"C:\Users\Fox\pipx\Cache\b15d9f6db3ece02\horde-bridge",
    ],
)
def test_an_environment_that_is_thrown_away_is_named(folder: str) -> None:
    assert "within the cache of uvx or pipx" in told(folder, windows=folder[1] == ":", long_paths=True)


@pytest.mark.parametrize(
    "folder", ["/home/fox/.local/share/uv/tools/horde-bridge/horde-bridge", "/home/fox/.local/pipx/venvs/horde-bridge"]
)
def test_an_environment_that_stays_is_fine(folder: str) -> None:
    assert told(folder) == ""


def test_the_folder_of_this_test_is_fine(tmp_path: Path) -> None:
    assert concerns_here(tmp_path) == []
