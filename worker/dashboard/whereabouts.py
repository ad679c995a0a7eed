"""Where a running worker is reached, and with what token: two files in its folder, which only its owner may read.

The token outlives the worker, so that a link that was kept goes on working. The address is there while the worker
runs; what a killed one left is recognised by its pid and start time. Other processes of this machine `ask` it there.
"""

import contextlib
import http.client
import json
import os
import secrets
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
from loguru import logger
from pydantic import ValidationError

from worker.errors import InputRefused, WorkerError
from worker.process_birth import Birth
from worker.status.as_json import adapter
from worker.untrusted.json_reader import JsonBounds, read_json_file, read_json_object
from worker.whole_file import write_whole

ADDRESS_FILE, TOKEN_FILE, SESSION_KEY_FILE = "dashboard.json", "dashboard-token", "dashboard-session-key"
ADDRESS_BOUNDS = JsonBounds(max_bytes=8192)
#: Seconds for an answer; maintenance waits for the Horde.
TIMEOUT_S = 30.0
#: What a status may hold.
ANSWER_BOUNDS = JsonBounds(max_bytes=8 * 1024 * 1024, max_values=500_000, max_depth=12)
#: Bytes of randomness in a token of ours, and characters read of one.
TOKEN_BYTES, LONGEST_TOKEN = 32, 1024


@dataclass(frozen=True)
class Whereabouts:
    """A running worker. `url` ends without a slash; `born` and `after_boot` are its process's start (Birth).

    Without `page` only programs are answered there, and no link to it leads anywhere.
    """

    name: str
    pid: int
    born: float
    url: str
    token: str
    page: bool = True
    after_boot: str = ""

    @property
    def runs(self) -> bool:
        """Whether that very process is there, and not another with its pid."""
        try:
            return Birth(self.born, self.after_boot).is_of(self.pid)
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:  # somebody else's, so it is there
            return True


def own_token(home: Path) -> str:
    """The token of the worker with this folder, made at its first start. One that can't be kept lasts for this run."""
    return _kept_secret(
        home / TOKEN_FILE, "The dashboard's token can't be kept in {}, so its link is another at each start: {}"
    )


def session_key(home: Path) -> str:
    """What signs the sessions of browsers, made at the first start."""
    return _kept_secret(
        home / SESSION_KEY_FILE, "{} can't be written, so browsers sign in again after each start of the worker: {}"
    )


def keep_session_key(home: Path, key: str) -> None:
    """Replace what signs the sessions of browsers."""
    try:
        write_whole(home / SESSION_KEY_FILE, key)
    except OSError as error:
        logger.bind(action="session_key_not_kept").warning(
            "{} can't be written, so sessions that were ended count again after the next start of the worker: {}",
            home / SESSION_KEY_FILE,
            error,
        )


def link(url: str, path: str, token: str) -> str:
    """What opens the page in a browser, without a word to type."""
    return f"{url}{path.rstrip('/')}/sign-in?token={quote(token, safe='')}"


def _kept_secret(file: Path, otherwise: str) -> str:
    try:
        with file.open(encoding="ascii") as stream:
            kept = stream.read(LONGEST_TOKEN).strip()
        if len(kept) >= TOKEN_BYTES:
            return kept
    except (OSError, ValueError):
        pass
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        write_whole(file, token)
    except OSError as error:
        logger.bind(action="secret_not_kept").warning(otherwise, file, error)
    return token


@contextmanager
def announced(home: Path, *, name: str, url: str, token: str, page: bool = True) -> Iterator[None]:
    """Keep the address in the worker's folder while the block lasts."""
    birth = Birth.of(os.getpid())
    here = Whereabouts(name, os.getpid(), birth.date, url, token, page, birth.after_boot)
    file = home / ADDRESS_FILE
    try:
        write_whole(file, json.dumps(asdict(here)))
    except OSError as error:
        logger.bind(action="address_not_kept").warning(
            "{} can't be written, so `horde-bridge status` does not find this worker: {}", file, error
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def running_workers(base: Path) -> list[Whereabouts]:
    """The workers that run now, of all whose folders are in `base`, by name. Files that make no sense are skipped."""
    found = []
    with contextlib.suppress(OSError):
        for file in sorted(base.glob(f"*/{ADDRESS_FILE}")):
            here = _read(file)
            if here is not None and here.runs:
                found.append(here)
    return sorted(found, key=lambda each: each.name)


def _read(file: Path) -> Whereabouts | None:
    """None for what makes no sense. A worker of an older version, which goes on running through an update, has fewer
    fields.
    """
    try:
        found: Whereabouts = adapter(Whereabouts).validate_python(read_json_file(file, ADDRESS_BOUNDS))
    except (OSError, InputRefused, ValidationError):
        return None
    return found


def ask(worker: Whereabouts, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The worker's answer. Raises WorkerError with what it says where it refuses, and when it does not answer."""
    address = urlsplit(worker.url)
    try:
        connection = _connection(address.scheme, address.hostname or "", address.port or 0)
        try:
            connection.request(
                method,
                path,
                body=json.dumps(dict(body or {})) if method == "POST" else None,
                headers={"Authorization": f"Bearer {worker.token}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            data = answer.read(ANSWER_BOUNDS.max_bytes + 1)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise WorkerError(
            f"The worker {worker.name!r} (process {worker.pid}) does not answer at {worker.url}: "
            f"{str(error) or type(error).__name__}.",
            remedy="It may be ending, or too busy; try again.",
        ) from error
    try:
        found = read_json_object(data, ANSWER_BOUNDS)
    except InputRefused as error:
        raise WorkerError(f"The worker {worker.name!r} answered what can't be read: {error}") from error
    if answer.status >= http.client.BAD_REQUEST:
        raise WorkerError(str(found.get("error", f"It answered {answer.status}.")), remedy=str(found.get("remedy", "")))
    return found


def _connection(scheme: str, host: str, port: int) -> http.client.HTTPConnection:
    """No proxy is between processes of one machine, and a certificate for a public name does not fit its address."""
    if scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
