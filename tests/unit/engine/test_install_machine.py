"""The detection of cards, on machines that are described instead of had."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from worker.engine.install.machine import (
    Accelerator,
    Host,
    Interpreter,
    ask,
    detect_card,
    why_not_running,
)


def host(
    root: Path,
    *,
    files: dict[str, str] | None = None,
    tools: Sequence[str] = (),
    answers: dict[str, str | None] | None = None,
    system: str = "Linux",
) -> Host:
    """A machine with these files and tools; `answers` by a word that the command contains."""
    for name, text in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def answer(command: Sequence[str]) -> str | None:
        for word, text in (answers or {}).items():
            if any(word in part for part in command):
                return text
        return None

    return Host(root, system, lambda tool: f"/usr/bin/{tool}" if tool in tools else None, answer)


KERNEL = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Wed Jan 15 09:26:31 UTC 2025\nGCC version: 12.2.0\n"
)


def test_a_machine_without_cards_computes_on_the_cpu(tmp_path):
    card = detect_card(host(tmp_path))
    assert card.accelerator is Accelerator.CPU
    assert "no NVIDIA or AMD" in card.found


def test_nvidia_smi_tells_driver_and_capabilities_of_every_card(tmp_path):
    report = "580.65.06, 12.0\n580.65.06, 8.6\n"
    card = detect_card(host(tmp_path, tools=["nvidia-smi"], answers={"compute_cap": report}))
    assert (card.accelerator, card.driver, card.capabilities) == (Accelerator.CUDA, 580, (12.0, 8.6))


def test_an_nvidia_smi_too_old_to_know_capabilities_still_tells_the_driver(tmp_path):
    answers = {"compute_cap": None, "--query-gpu=driver_version": "470.57.02\n"}
    card = detect_card(host(tmp_path, tools=["nvidia-smi"], answers=answers))
    assert (card.accelerator, card.driver, card.capabilities) == (Accelerator.CUDA, 470, ())


def test_the_kernel_module_is_enough_where_nvidia_smi_is_absent(tmp_path):
    card = detect_card(host(tmp_path, files={"proc/driver/nvidia/version": KERNEL}))
    assert (card.accelerator, card.driver) == (Accelerator.CUDA, 570)
    assert "570.86.10" in card.found


def test_nvidia_smi_without_a_card_is_no_card(tmp_path):
    assert detect_card(host(tmp_path, tools=["nvidia-smi"])).accelerator is Accelerator.CPU


def test_a_hanging_nvidia_smi_does_not_hide_a_card_the_kernel_knows(tmp_path):
    found = detect_card(host(tmp_path, tools=["nvidia-smi"], files={"proc/driver/nvidia/version": KERNEL}))
    assert (found.accelerator, found.driver) == (Accelerator.CUDA, 570)


def test_a_report_that_makes_no_sense_still_means_an_nvidia_card(tmp_path):
    card = detect_card(host(tmp_path, tools=["nvidia-smi"], answers={"nvidia-smi": "[N/A], [N/A]\n"}))
    assert (card.accelerator, card.driver, card.capabilities) == (Accelerator.CUDA, None, ())


def test_on_windows_nvidia_smi_is_found_outside_of_path(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTEMROOT", "Windows")
    files = {"Windows/System32/nvidia-smi.exe": ""}
    card = detect_card(host(tmp_path, files=files, system="Windows", answers={"nvidia-smi.exe": "566.03, 8.9\n"}))
    assert (card.accelerator, card.driver) == (Accelerator.CUDA, 566)


@pytest.mark.parametrize(
    ("files", "tools"),
    [pytest.param({"dev/kfd": ""}, [], id="kernel driver"), pytest.param({}, ["rocminfo"], id="rocminfo, as in WSL")],
)
def test_an_amd_card_is_found_by_what_rocm_needs(tmp_path, files, tools):
    assert detect_card(host(tmp_path, files=files, tools=tools)).accelerator is Accelerator.ROCM


def pci(vendor: str, kind: str = "0x030000") -> dict[str, str]:
    """A device on the bus; a card if nothing else is said."""
    device = "sys/bus/pci/devices/0000:01:00.0"
    return {f"{device}/vendor": f"{vendor}\n", f"{device}/class": f"{kind}\n"}


def test_an_amd_card_that_rocm_cannot_reach_counts_as_none_and_says_so(tmp_path):
    card = detect_card(host(tmp_path, files=pci("0x1002")))
    assert card.accelerator is Accelerator.CPU
    assert "/dev/kfd" in card.found
    assert "--rocm" in card.found


def test_an_amd_card_that_the_user_may_not_open_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.engine.install.machine.os.access", lambda *_: False)
    card = detect_card(host(tmp_path, files={"dev/kfd": ""}))
    assert card.accelerator is Accelerator.ROCM
    assert "usermod -aG render,video" in card.found


@pytest.mark.parametrize("tools", [[], ["nvidia-smi"]], ids=["no driver", "a tool that fails"])
def test_an_nvidia_card_whose_driver_does_not_answer_counts_as_none_and_says_so(tmp_path, tools):
    """Secure Boot, an update of the kernel, nouveau: nvidia-smi fails or was never installed, and the card is there."""
    card = detect_card(host(tmp_path, files=pci("0x10de"), tools=tools))
    assert card.accelerator is Accelerator.CPU
    assert "NVIDIA card whose driver does not answer" in card.found
    assert "--cuda" in card.found


@pytest.mark.parametrize("files", [pci("0x8086"), pci("0x10de", "0x040300")], ids=["graphics", "sound"])
def test_another_vendors_graphics_and_a_cards_sound_are_no_card(tmp_path, files):
    assert "no NVIDIA or AMD" in detect_card(host(tmp_path, files=files)).found


def test_in_wsl_nvidia_smi_is_found_outside_of_path(tmp_path):
    """Its folder is in the PATH of a login from Windows alone: not by ssh, by sudo, in a service."""
    files = {"usr/lib/wsl/lib/nvidia-smi": ""}
    card = detect_card(host(tmp_path, files=files, answers={"/usr/lib/wsl/lib/nvidia-smi": "566.03, 8.9\n"}))
    assert (card.accelerator, card.driver, card.capabilities) == (Accelerator.CUDA, 566, (8.9,))


def test_nvidia_comes_before_amd(tmp_path):
    files = {"dev/kfd": "", "proc/driver/nvidia/version": KERNEL}
    assert detect_card(host(tmp_path, files=files)).accelerator is Accelerator.CUDA


def test_asking_a_tool_that_is_absent_or_fails_gives_nothing():
    assert ask(["/nonexistent/tool"]) is None
    assert ask(["false"]) is None
    assert ask(["echo", "580.1"]) == "580.1\n"


def test_the_interpreter_for_environments_is_outside_of_any():
    current = Interpreter.current()
    assert current.executable.is_file()
    assert not (current.executable.parent.parent / "pyvenv.cfg").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "#!/bin/sh\necho 'libpython3.11.so.1.0: cannot open shared object file' >&2; exit 127",
            "libpython3.11.so.1.0",
        ),
        ("of another machine", "format error"),
        ("#!/bin/sh\nexit 3", "exit 3"),
    ],
)
def test_a_python_that_does_not_run_says_why(tmp_path, text, why):
    (tmp_path / "python").write_text(text)
    (tmp_path / "python").chmod(0o755)
    assert why in why_not_running(tmp_path / "python")


def test_a_python_that_runs_is_fine_and_one_that_is_gone_is_not(tmp_path):
    assert why_not_running(Path(sys.executable)) == ""
    assert "No such file" in why_not_running(tmp_path / "python")
