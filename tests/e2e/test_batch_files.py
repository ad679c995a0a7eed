"""The batch files as far as reading them tells."""

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "worker" / "engine" / "install"
BATCH_FILES = sorted([*ROOT.glob("*.cmd"), *INSTALL.glob("*.cmd")])


def test_there_is_a_script_of_each_name_an_owner_of_the_former_worker_knows():
    names = {path.name for path in ROOT.iterdir()}
    assert {"horde-bridge.sh", "horde-bridge-rocm.sh", "update-runtime.sh", "update-runtime-rocm.sh"} <= names
    assert {"preload-models.sh", "preload-models.cmd", "download_models.py"} <= names
    assert {"runtime.sh", "runtime-rocm.sh", "runtime.cmd", "run_worker.py", "convert_config_to_env.py"} <= names
    assert {
        "horde-bridge.cmd",
        "horde-bridge-directml.cmd",
        "update-runtime.cmd",
        "update-runtime-directml.cmd",
    } <= names


@pytest.mark.parametrize("path", BATCH_FILES, ids=lambda path: path.name)
def test_a_batch_file_is_sound_as_far_as_reading_tells(path):
    text = path.read_bytes().decode("ascii")
    if os.name == "nt" or b"\r" in path.read_bytes():
        assert text.count("\n") == text.count("\r\n")
    lines = [line.strip() for line in text.splitlines()]
    code = [line for line in lines if not line.lower().startswith("rem ")]
    assert lines[0] == "@echo off"
    for line in code:
        if path.name != "stay-open.cmd":
            assert not re.search(r"\b(pause|choice|set\s+/p)\b", line, re.IGNORECASE), "waits for a key"
        assert '%~dp0"' not in line, "the backslash at the end would escape the quote"
        assert "%~dp0" not in line or '"' in line, "a path with spaces"
    labels = {line[1:] for line in code if line.startswith(":")}
    assert set(re.findall(r"(?:goto |call :)(\w+)", "\n".join(code))) == labels
    assert code[-1].startswith("exit /b ")
    if path.parent == ROOT:
        assert any(line.endswith("%*") for line in code)
        assert code[-1] in {"exit /b %errorlevel%", "exit /b %code%"}


def test_batch_files_reach_the_working_tree_with_their_line_ends():
    answer = subprocess.run(
        ["git", "check-attr", "eol", "--", *(path.name for path in BATCH_FILES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.rpartition(" ")[2] for line in answer.stdout.splitlines()] == ["crlf"] * len(BATCH_FILES)


def test_both_systems_look_for_the_same_pythons_and_start_the_same_code():
    shell, batch = ((ROOT / f"update-runtime{end}").read_text() for end in (".sh", ".cmd"))
    check = re.search(r"-I -c '(import sys, .+)' >", shell)[1]
    assert f'set "is_of_use={check.replace(chr(34), chr(39))}"' in batch
    one_line = re.search(r'set "install=(.+)"', batch)[1]
    in_shell = re.search(r"-I -c '(import runpy.+?)' \"\$here\"", shell, re.DOTALL)[1]
    assert one_line.replace("'", '"') == in_shell.replace("\n", "; ")
    assert one_line in (ROOT / "horde-bridge.cmd").read_text()


def test_a_window_stays_open_only_behind_three_conditions():
    text = (INSTALL / "stay-open.cmd").read_text()
    before = text.partition("\npause")[0]
    assert "if defined CI exit" in before
    assert 'if "!cut!"=="!line!" exit' in before
    assert before.rstrip().endswith("if errorlevel 1 exit /b 0")
    for name in ("horde-bridge.cmd", "update-runtime.cmd"):
        assert "stay-open.cmd" in (ROOT / name).read_text()
