"""What this machine is: its card, its Python, its free disk. Looks only; nothing is changed."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from worker.errors import RuntimeMissing
from worker.units import free_bytes

#: nvidia-smi needs seconds when no process keeps the driver awake; a broken driver makes it hang.
PROBE_TIMEOUT_S = 15.0
#: NVIDIA's tool in WSL, which is not in the PATH of ssh, sudo or a service.
WSL_SMI = "/usr/lib/wsl/lib/nvidia-smi"
#: The PCI bus: its devices, how the class of a card begins, vendors.
PCI, DISPLAY, NVIDIA, AMD = "/sys/bus/pci/devices", "0x03", "0x10de", "0x1002"
#: What AMD's compute driver is reached by.
KFD = "/dev/kfd"


class Accelerator(str, Enum):
    """What the engine computes on; decides which build of torch is installed."""

    CUDA = "cuda"
    ROCM = "rocm"
    DIRECTML = "directml"
    CPU = "cpu"


@dataclass(frozen=True)
class DeviceFlags:
    """What the command line says of the device. Without any of them it is as the runtime was set up."""

    amd: bool = False
    directml: int | None = None
    cpu: bool = False

    @property
    def accelerator(self) -> Accelerator | None:
        if self.cpu:
            return Accelerator.CPU
        if self.directml is not None:
            return Accelerator.DIRECTML
        return Accelerator.ROCM if self.amd else None


@dataclass(frozen=True)
class Card:
    """What was found, and what is known of it. `driver` is NVIDIA's major version, `capabilities` are CUDA's."""

    accelerator: Accelerator
    found: str
    driver: int | None = None
    capabilities: tuple[float, ...] = ()


def ask(command: Sequence[str]) -> str | None:
    """What a command prints; None if it is absent, fails or hangs."""
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout if answer.returncode == 0 else None


@dataclass(frozen=True)
class Host:
    """The machine as seen by the detection; tests put another one in its place."""

    root: Path = field(default_factory=lambda: Path("/"))
    system: str = field(default_factory=platform.system)
    which: Callable[[str], str | None] = shutil.which
    ask: Callable[[Sequence[str]], str | None] = ask

    def has(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).exists()

    def read(self, path: str) -> str:
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def may_use(self, device: str) -> bool:
        """Whether this user may open a device."""
        return os.access(self.root / device.lstrip("/"), os.R_OK | os.W_OK)

    def has_card_of(self, vendor: str) -> bool:
        """Whether there is a card, be it without a driver."""
        return any(
            self.read(f"{PCI}/{device.name}/class").startswith(DISPLAY)
            and self.read(f"{PCI}/{device.name}/vendor").strip() == vendor
            for device in (self.root / PCI.lstrip("/")).glob("*")
        )


def detect_card(host: Host) -> Card:
    """NVIDIA before AMD before none. A card that its driver does not reach counts as none, and `found` says so."""
    return _nvidia(host) or _amd(host) or Card(Accelerator.CPU, _without_driver(host) or "no NVIDIA or AMD card")


def _without_driver(host: Host) -> str:
    """What to do about a card that nothing can be computed on; empty where there is none."""
    if host.has_card_of(NVIDIA):
        return (
            "an NVIDIA card whose driver does not answer: install or mend it, restart, see that nvidia-smi prints a "
            "table, then run update-runtime --cuda"
        )
    if host.has_card_of(AMD):
        return f"an AMD card without its compute driver ({KFD}); after installing it: update-runtime --rocm"
    return ""


def _nvidia(host: Host) -> Card | None:
    smi = host.which("nvidia-smi")
    if smi is None:
        # The driver puts it there; PATH may not hold that folder in a bare shell.
        system32 = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvidia-smi.exe")  # noqa: PTH118 - a Windows path, tested on Linux
        elsewhere = system32 if host.system == "Windows" else WSL_SMI
        smi = elsewhere if host.has(elsewhere) else None
    kernel = host.read("/proc/driver/nvidia/version")
    if smi is None and not kernel:
        return None
    drivers: list[str] = []
    capabilities: list[float] = []
    if smi is not None:
        # compute_cap is unknown to drivers before 510; these are too old for any build, and are asked for less.
        report = host.ask([smi, "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]) or host.ask(
            [smi, "--query-gpu=driver_version", "--format=csv,noheader"]
        )
        if report is None and not kernel:
            return None  # the tool without a card, as in some container images
        for line in (report or "").splitlines():
            driver, _, capability = line.partition(",")
            drivers.append(driver.strip())
            if re.fullmatch(r"\d+\.\d+", capability.strip()):
                capabilities.append(float(capability))
    if not drivers:
        drivers = re.findall(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", kernel)[:1]
    major = int(drivers[0].split(".")[0]) if drivers and drivers[0].split(".")[0].isdigit() else None
    found = f"an NVIDIA card (driver {drivers[0]})" if drivers else "an NVIDIA card"
    return Card(Accelerator.CUDA, found, major, tuple(capabilities))


def _amd(host: Host) -> Card | None:
    if not host.has(KFD):
        return Card(Accelerator.ROCM, "an AMD card") if host.which("rocminfo") else None
    barred = "" if host.may_use(KFD) else f", which you may not use: {how_to_be_let_in()}"
    return Card(Accelerator.ROCM, f"an AMD card{barred}")


def how_to_be_let_in() -> str:
    """What an owner does who may not open his AMD card."""
    return "sudo usermod -aG render,video $USER, then log in again"


@dataclass(frozen=True)
class Interpreter:
    """A Python outside of any virtual environment: what the environments are made from."""

    executable: Path
    version: str

    @classmethod
    def current(cls) -> "Interpreter":
        # Inside an environment sys.executable goes away with it; links such as python3 change their aim over time.
        base = Path(getattr(sys, "_base_executable", None) or sys.executable)
        return cls(base.resolve(), f"{sys.version_info[0]}.{sys.version_info[1]}")


def why_not_running(python: Path) -> str:
    """Why an interpreter does not run, in its last words; empty if it does.

    Its library may be gone after an update of the system, or the folder may come from another kind of machine.
    """
    command = [str(python), "-I", "-S", "-c", ""]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        return error.strerror or str(error)
    except subprocess.TimeoutExpired:
        return f"no end within {PROBE_TIMEOUT_S:.0f} s"
    words = done.stderr.decode("utf-8", errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
    return words[-1] if done.returncode else ""


def python_numbers(version: str) -> tuple[int, int]:
    """3.11 as (3, 11)."""
    major, minor = (int(number) for number in version.split("."))
    return major, minor


def require_room(what: str, needed: int, folder: Path) -> None:
    """Raises RuntimeMissing where less than `needed` bytes are free. `what` begins the sentence, up to its verb."""
    free = free_bytes(folder)
    if free < needed:
        raise RuntimeMissing(
            f"{what} {needed / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are free.",
            remedy="Make room, or set AIWORKER_RUNTIME_DIR to a folder on another disk.",
        )
