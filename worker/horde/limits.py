"""Bounds of everything that waits or grows in the client."""

from dataclasses import dataclass

import httpx

from worker.horde.backoff import RetryPolicy

_SUBMIT = RetryPolicy(tries=5, within_s=120.0)
_LOOKUP = RetryPolicy(tries=3, within_s=30.0)
_TRANSFER = RetryPolicy(tries=5, within_s=90.0)


@dataclass(frozen=True)
class Limits:
    """Times in seconds. The defaults are those of the real Horde; a bench against a local one may raise them."""

    # The server's limits per internet address, measured: 60 pops and 60 submits a second, 30 changes and 90 look-ups
    # a minute. The distance allows for requests that bunch up on their way.
    pops_per_s: int = 50
    submits_per_s: int = 50
    lookups_per_min: int = 80
    changes_per_min: int = 25

    connect_s: float = 10.0
    #: longest silence while reading; the server thinks long about a pop when many requests wait
    read_s: float = 60.0
    write_s: float = 60.0
    #: for each kind of request: pops, the rest of the API, storage
    connections: int = 24
    #: an idle connection older than this is not used again, for the other end may be closing it
    idle_connection_s: float = 20.0

    # One try as a whole. That of a pop is generous: to hang up on it is to drop the job it may bring.
    pop_s: float = 90.0
    submit_s: float = 60.0
    lookup_s: float = 30.0
    transfer_s: float = 60.0

    #: longest answer of the API; a pop may hold pictures in base64
    answer_bytes: int = 64 * 1024 * 1024

    submit_retry: RetryPolicy = _SUBMIT
    lookup_retry: RetryPolicy = _LOOKUP
    transfer_retry: RetryPolicy = _TRANSFER

    def timeout(self) -> httpx.Timeout:
        """The waits of one try, as httpx takes them."""
        return httpx.Timeout(connect=self.connect_s, read=self.read_s, write=self.write_s, pool=None)
