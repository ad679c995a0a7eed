"""uv, which installs everything: the pinned one, fetched by a script that needs no Python, and what it is told.

Its cache lies in the runtime folder, so that packages of several environments are the same files on the disk (hard
links), and nothing stays behind when the folder is deleted.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from worker.engine.install import pip_settings, uv_settings
from worker.engine.install.layout import LOCKS
from worker.engine.install.places import synchronised
from worker.engine.install.shell import Shell
from worker.owner_path import owner_path

PINS = LOCKS / "uv.txt"
HERE = Path(__file__).resolve().parent
PROGRAM = "uv.exe" if os.name == "nt" else "uv"
#: A folder of wheels to install from, without any network.
WHEELS = "AIWORKER_WHEELS"

#: How long uv waits for an answer, unless the owner said longer.
TIMEOUT_S = 120
#: Variables that name a file or folder: whole, since uv runs in the runtime's folder.
PATHS = frozenset({"UV_CACHE_DIR", "UV_CREDENTIALS_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "NETRC"})
#: Colours would hide what uv writes of its progress.
COLOURS = frozenset({"FORCE_COLOR", "CLICOLOR_FORCE"})


def _pins() -> list[list[str]]:
    rows = (line.split() for line in PINS.read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row and row[0] != "#"]


def version() -> str:
    """The pinned version."""
    return _pins()[0][1]


def sums() -> tuple[str, ...]:
    """The sha256 of its wheel for each system."""
    return tuple(row[3] for row in _pins() if len(row) > 3 and len(row[3]) == 64)  # noqa: PLR2004 - as long as a sha256


def program(runtime: Path) -> Path:
    """Where the pinned uv is, or will be."""
    return runtime / f"uv-{version()}" / PROGRAM


def environment(runtime: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables uv gets: the owner's without what would mislead it, over what uv's and pip's files say of the
    network.
    """
    kept = uv_settings.kept_variables(environ)
    files = uv_settings.from_files(uv_settings.config_files(environ, runtime)).variables
    told = pip_settings.for_uv({**files, **kept}) | uv_settings.unless_set(files, kept)
    ours = {
        "UV_CACHE_DIR": str(runtime / "cache"),
        # Fewer than uv's 50, so that on a slow line none of them waits for longer than the next setting allows.
        "UV_CONCURRENT_DOWNLOADS": "8",
        "UV_HTTP_TIMEOUT": str(TIMEOUT_S),
        # The certificates of the system, among which is that of a company's proxy.
        "UV_SYSTEM_CERTS": "1",
        # OneDrive takes no file with a second name.
        "UV_LINK_MODE": "copy" if synchronised(str(runtime)) else "hardlink",
    }
    given = {**ours, **told, **kept}
    if given["UV_LINK_MODE"] not in uv_settings.LINK_MODES:
        given["UV_LINK_MODE"] = ours["UV_LINK_MODE"]
    if (seconds := given["UV_HTTP_TIMEOUT"]).isdigit() and "UV_HTTP_TIMEOUT" not in environ:
        given["UV_HTTP_TIMEOUT"] = str(max(TIMEOUT_S, int(seconds)))  # pip's 15 s are for one file at a time
    for name in PATHS & given.keys():
        given[name] = str(owner_path(given[name]).absolute())
    if wheels := environ.get(WHEELS):
        folder = owner_path(wheels).absolute()
        given |= {"UV_FIND_LINKS": uv_settings.list_entry(folder), "UV_NO_INDEX": "1", "UV_OFFLINE": "1"}
    given = {name: value for name, value in given.items() if name not in COLOURS}
    return {**given, "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def is_on(given: Mapping[str, str], name: str) -> bool:
    """Whether a switch among uv's variables is on."""
    return given.get(name, "").strip().lower() in pip_settings.TRUE


def concerns(runtime: Path, environ: Mapping[str, str]) -> list[str]:
    """What of the owner's settings for uv and pip has no effect here, or keeps the network away: a sentence each."""
    left_out = uv_settings.left_out_variables(environ)
    left_out += uv_settings.from_files(uv_settings.config_files(environ, runtime)).left_out
    sentences = []
    if left_out:
        sentences.append(
            f"Without effect here, where each package is named by version and sha256: {', '.join(left_out)}."
        )
    if is_on(environment(runtime, environ), "UV_OFFLINE") and not environ.get(WHEELS):
        sentences.append(
            "UV_OFFLINE (or offline in uv.toml) is on: only packages in the cache and in UV_FIND_LINKS are to be had."
        )
    return sentences


def ensure(shell: Shell) -> Path:
    """The pinned uv, fetched if it is not there yet. Raises RuntimeMissing."""
    found = program(shell.folder)
    if not found.is_file():
        script = (
            ["cmd.exe", "/d", "/c", str(HERE / "fetch-uv.cmd")]
            if os.name == "nt"
            else ["bash", str(HERE / "fetch-uv.sh")]
        )
        shell.with_environment(environment(shell.folder, shell.environ)).run(
            [*script, str(shell.folder)], log="uv", remedy="See the lines above; then run update-runtime again."
        )
    return found


def run(shell: Shell, *words: str, log: str, remedy: str = "", environ: dict[str, str] | None = None) -> None:
    """Run the pinned uv, by itself with the variables of `environment`. Raises RuntimeMissing."""
    given = environment(shell.folder, shell.environ) if environ is None else environ
    shell.with_environment(given).run([str(ensure(shell)), *words], log=log, remedy=remedy)
