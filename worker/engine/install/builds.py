"""Which build of torch, and from where: PyTorch's own index by card, the default index where that can't serve.

The default index carries one build per system: CUDA on Linux, CPU on Windows and macOS. Facts about builds: PyTorch's
release matrix for 2.14 and NVIDIA's table of drivers. Nothing here is called on a run that has nothing to do.
"""

import http
import http.client
import platform
import queue
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from worker.engine.install.machine import Accelerator, Card, python_numbers
from worker.errors import RuntimeMissing

TORCH = "2.14.1"
TORCHVISION = "0.29.1"
#: Microsoft's last release; it brings its own, older torch.
TORCH_DIRECTML = "0.2.5.dev240914"
TORCHVISION_FOR_DIRECTML = "0.19.1"
#: The newest Python that torch-directml has a build for.
DIRECTML_PYTHON_MAX = (3, 12)

VENDOR_INDEX = "https://download.pytorch.org/whl"
#: Long enough for a slow line, short enough for a blocked one; counts for each index that is tried.
INDEX_TIMEOUT_S = 6.0
#: A page of links is some hundred kilobytes.
INDEX_PAGE_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class CudaBuild:
    """A folder of the vendor's index, and which cards and drivers it runs on."""

    tag: str
    driver_min_linux: int
    driver_min_windows: int
    capability_min: float
    capability_max: float

    def driver_min(self, system: str) -> int:
        return self.driver_min_windows if system == "Windows" else self.driver_min_linux

    def cards(self, capabilities: Sequence[float]) -> int:
        return sum(self.capability_min <= capability <= self.capability_max for capability in capabilities)


#: Best first. 12.6 is the last that runs on Maxwell, Pascal and Volta, and knows nothing newer than Hopper.
CUDA_BUILDS = (
    CudaBuild("cu130", 580, 580, 7.5, 12.9),
    CudaBuild("cu126", 525, 528, 5.0, 9.0),
)
#: Best first; which of them a release of torch is built for, its index tells.
ROCM_TAGS = ("rocm7.2", "rocm7.14", "rocm7.1", "rocm6.4")

#: What an environment takes on disk, with its downloads, in bytes. The default index's Linux build counts as CUDA.
ENGINE_DISK_BYTES = {
    Accelerator.CUDA: 9 * 10**9,
    Accelerator.ROCM: 22 * 10**9,
    Accelerator.DIRECTML: 3 * 10**9,
    Accelerator.CPU: 3 * 10**9,
}


class Index(str, Enum):
    """What an index says to our question for torch."""

    SERVES = "serves"
    LACKS = "lacks"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class TorchSource:
    """What to ask uv for. `index` None: the default one. `notice` is for the owner; empty if all is as it should be."""

    requirements: tuple[str, ...]
    index: str | None
    disk_bytes: int
    notice: str = ""


@dataclass(frozen=True)
class Target:
    """For what a build must be made: `system` and `machine` as the platform module has them, `python` (3, 11)."""

    system: str
    machine: str
    python: tuple[int, int]

    @classmethod
    def here(cls, python_version: str) -> "Target":
        return cls(platform.system(), platform.machine(), python_numbers(python_version))


def torch_requirements(accelerator: Accelerator) -> tuple[str, ...]:
    """What uv is asked for; the build follows from the index, not from the name."""
    if accelerator is Accelerator.DIRECTML:
        return (f"torch-directml=={TORCH_DIRECTML}", f"torchvision=={TORCHVISION_FOR_DIRECTML}")
    return (f"torch=={TORCH}", f"torchvision=={TORCHVISION}")


def vendor_tags(card: Card, system: str) -> tuple[str, ...]:
    """Folders of the vendor's index to try, best first; empty if no CUDA build runs on this driver."""
    match card.accelerator:
        case Accelerator.CPU:
            return ("cpu",)
        case Accelerator.ROCM:
            return ROCM_TAGS
        case Accelerator.DIRECTML:
            return ()
        case Accelerator.CUDA:
            builds = [build for build in CUDA_BUILDS if card.driver is None or card.driver >= build.driver_min(system)]
            # On as many cards as possible; sorted() keeps the order of equals, and so the newer build first.
            return tuple(
                build.tag for build in sorted(builds, key=lambda build: build.cards(card.capabilities), reverse=True)
            )


def choose_source(
    card: Card, target: Target, *, asked_for: bool, index: str | None, probe: Callable[[str, Target], Index]
) -> TorchSource:
    """Where to take torch from. `asked_for`: the owner named the accelerator. `index`: the owner named that too.

    Raises RuntimeMissing where nothing that is to be had runs on what the owner asked for. What was only detected
    falls back to a build for the processor instead, with a notice.
    """
    requirements = torch_requirements(card.accelerator)
    if card.accelerator is Accelerator.DIRECTML:
        if target.python > DIRECTML_PYTHON_MAX:
            raise RuntimeMissing(
                f"torch-directml has no build for Python {target.python[0]}.{target.python[1]}.",
                remedy="Install Python 3.12 or 3.11 and run again with PYTHON set to it.",
            )
        return TorchSource(requirements, index, ENGINE_DISK_BYTES[Accelerator.DIRECTML])
    if index is not None:
        return TorchSource(requirements, index, ENGINE_DISK_BYTES[card.accelerator])
    tags = vendor_tags(card, target.system)
    if card.accelerator is Accelerator.CUDA and not tags:
        oldest = min(build.driver_min(target.system) for build in CUDA_BUILDS)
        raise RuntimeMissing(
            f"The NVIDIA driver {card.driver} is too old for torch {TORCH}.",
            remedy=f"Update the driver to {oldest} or newer (580 for the fastest build), or run with --cpu.",
        )
    answers = []
    for tag in tags:
        url = f"{VENDOR_INDEX}/{tag}"
        answers.append(answer := probe(url, target))
        match answer:
            case Index.SERVES:
                return TorchSource(requirements, url, ENGINE_DISK_BYTES[card.accelerator])
            case Index.UNREACHABLE:
                break  # the other folders are on the same host
            case Index.LACKS:
                continue
    return _default_index(card, target, requirements, asked_for=asked_for, unreachable=Index.UNREACHABLE in answers)


def _default_index(
    card: Card, target: Target, requirements: tuple[str, ...], *, asked_for: bool, unreachable: bool
) -> TorchSource:
    why = (
        "PyTorch's own package index can't be reached"
        if unreachable
        else f"PyTorch's own package index has no build of torch {TORCH} for {card.accelerator.value} here"
    )
    build, serves = (
        ("CUDA", (Accelerator.CUDA, Accelerator.CPU)) if target.system == "Linux" else ("CPU", (Accelerator.CPU,))
    )
    if card.accelerator not in serves and asked_for:
        raise RuntimeMissing(
            f"{why}, and the default index has no {card.accelerator.value} build.",
            remedy="Name an index that has one with --torch-index URL, or run with --cpu.",
        )
    notice = f"{why}; taking torch from the default index: its {build} build"
    if card.accelerator not in serves:
        notice += ", which runs on the processor only"
    elif build == "CUDA" and card.accelerator is Accelerator.CPU:
        notice += ", larger than needed, which runs on the processor as well"
    elif card.accelerator is Accelerator.CUDA and card.driver is not None:
        newest = CUDA_BUILDS[0]
        if card.driver < newest.driver_min_linux or newest.cards(card.capabilities) < len(card.capabilities):
            notice += f", which needs driver {newest.driver_min_linux} and a card of the RTX 20 series or newer"
    size = ENGINE_DISK_BYTES[Accelerator.CUDA if build == "CUDA" else Accelerator.CPU]
    return TorchSource(requirements, None, size, notice + ".")


def lists_build(page: str, target: Target) -> bool:
    """Whether an index's page of links names our torch for this Python and system."""
    cpython = f"cp{target.python[0]}{target.python[1]}"
    machine = {"AMD64": "amd64", "arm64": "arm64"}.get(target.machine, target.machine)
    system = {"Linux": "linux", "Windows": "win", "Darwin": "macosx"}.get(target.system, target.system)
    files = re.findall(rf"torch-{re.escape(TORCH)}(?:%2B|\+|-)[^\"'<>#\s]*?\.whl", page)
    return any(
        f"-{cpython}-{cpython}-" in name and system in name and name.endswith(f"{machine}.whl") for name in files
    )


def probe_index(url: str, target: Target, environ: Mapping[str, str]) -> Index:
    """Ask an index whether it has our torch. Takes `INDEX_TIMEOUT_S` at most, name look-up included.

    By the proxy and with the certificates that `environ` names, which are those that uv will use.
    """
    answers: queue.SimpleQueue[Index] = queue.SimpleQueue()

    def look() -> None:
        try:
            with _opener(environ).open(f"{url}/torch/", timeout=INDEX_TIMEOUT_S) as response:
                page = response.read(INDEX_PAGE_MAX_BYTES).decode("utf-8", errors="replace")
        except urllib.error.HTTPError as error:
            # The vendor's storage answers 403 for a folder that does not exist.
            lacks = error.code in {http.HTTPStatus.FORBIDDEN, http.HTTPStatus.NOT_FOUND}
            answers.put(Index.LACKS if lacks else Index.UNREACHABLE)
        except (OSError, ValueError, http.client.HTTPException):
            answers.put(Index.UNREACHABLE)
        else:
            answers.put(Index.SERVES if lists_build(page, target) else Index.LACKS)

    # A thread, since no time-out of the standard library covers the resolver, which can take half a minute.
    threading.Thread(target=look, name="index-probe", daemon=True).start()
    try:
        return answers.get(timeout=INDEX_TIMEOUT_S)
    except queue.Empty:
        return Index.UNREACHABLE


def _opener(environ: Mapping[str, str]) -> urllib.request.OpenerDirector:
    proxies = urllib.request.getproxies()
    for scheme in ("http", "https"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
        if proxy := next((environ[name] for name in names if environ.get(name)), None):
            proxies[scheme] = proxy
    certificates = environ.get("SSL_CERT_FILE", "")
    context = ssl.create_default_context(cafile=certificates if Path(certificates).is_file() else None)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
    )
