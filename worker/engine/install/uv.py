"""uv, which installs everything: the pinned one, fetched by a script that needs no Python, and what it is told.

Its cache lies in the runtime folder, so that packages of several environments are the same files on the disk (hard
links), and nothing stays behind when the folder is deleted.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from worker.engine.install import pip_settings
from worker.engine.install.layout import LOCKS
from worker.engine.install.shell import Shell

PINS = LOCKS / "uv.txt"
HERE = Path(__file__).resolve().parent
PROGRAM = "uv.exe" if os.name == "nt" else "uv"
#: Of the owner's variables for uv those that say how to reach an index; all others could lead packages elsewhere.
KEPT = (
    "UV_CACHE_DIR", "UV_CONCURRENT_DOWNLOADS", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_HTTP_",
    "UV_INDEX", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_LINK_MODE", "UV_NATIVE_TLS", "UV_NO_INDEX", "UV_OFFLINE",
    "UV_PYTHON_INSTALL_MIRROR", "UV_SYSTEM_CERTS",
)  # fmt: skip
#: A folder of wheels to install from, without any network.
WHEELS = "AIWORKER_WHEELS"


def version() -> str:
    """The pinned version."""
    rows = (line.split() for line in PINS.read_text(encoding="utf-8").splitlines())
    return next(row[1] for row in rows if row and row[0] != "#")


def program(runtime: Path) -> Path:
    """Where the pinned uv is, or will be."""
    return runtime / f"uv-{version()}" / PROGRAM


def environment(runtime: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables uv gets: the owner's without what would mislead it, with what pip was told of the network."""
    kept = {name: value for name, value in environ.items() if not name.startswith("UV_") or name.startswith(KEPT)}
    told = pip_settings.for_uv(environ)
    if wheels := environ.get(WHEELS):
        told |= {"UV_FIND_LINKS": wheels, "UV_NO_INDEX": "1", "UV_OFFLINE": "1"}
    ours = {
        "UV_CACHE_DIR": str(runtime / "cache"),
        # Fewer than uv's 50, so that on a slow line none of them waits for longer than the next setting allows.
        "UV_CONCURRENT_DOWNLOADS": "8",
        "UV_HTTP_TIMEOUT": "120",
        # The certificates of the system, among which is that of a company's proxy.
        "UV_SYSTEM_CERTS": "1",
        "UV_LINK_MODE": "hardlink",
    }
    return {**ours, **kept, **told, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}


def ensure(shell: Shell, runtime: Path) -> Path:
    """The pinned uv, fetched if it is not there yet. Raises RuntimeMissing."""
    found = program(runtime)
    if not found.is_file():
        if os.name == "nt":
            command = ["cmd.exe", "/d", "/c", str(HERE / "fetch-uv.cmd"), str(runtime)]
        else:
            command = ["bash", str(HERE / "fetch-uv.sh"), str(runtime)]
        shell.run(command, log="uv", remedy="See the lines above; then run update-runtime again.")
    return found
