"""Ask and steer a running worker from another process of this machine."""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from worker.dashboard.whereabouts import Whereabouts
from worker.errors import InputRefused, WorkerError
from worker.untrusted.json_reader import JsonBounds, read_json_object

#: Seconds for an answer; maintenance waits for the Horde.
TIMEOUT_S = 30.0
#: What a status may hold.
ANSWER_BOUNDS = JsonBounds(max_bytes=8 * 1024 * 1024, max_values=500_000, max_depth=12)


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
