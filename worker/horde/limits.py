"""Bounds on everything that waits or grows in the client."""

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
    # a minute. The margin allows for requests that arrive closer together than they were sent.
    pops_per_s: int = 50
    submits_per_s: int = 50
    lookups_per_min: int = 80
    changes_per_min: int = 25

    connect_s: float = 10.0
    #: longest silence while reading; a pop takes the server long when many requests wait
    read_s: float = 60.0
    write_s: float = 60.0
    #: connections of each kind: pops, the rest of the API, storage
    connections: int = 24
    #: an idle connection older than this is not used again, because the other end may be closing it
    idle_connection_s: float = 20.0

    # One try as a whole. A pop's is long: to give it up is to lose the job it may bring.
    pop_s: float = 90.0
    submit_s: float = 60.0
    lookup_s: float = 30.0
    transfer_s: float = 60.0

    #: longest answer of the API that is read, in bytes; a pop with a long prompt and fifty LoRAs has 20 kB
    answer_bytes: int = 1024 * 1024

    submit_retry: RetryPolicy = _SUBMIT
    lookup_retry: RetryPolicy = _LOOKUP
    transfer_retry: RetryPolicy = _TRANSFER

    def timeout(self) -> httpx.Timeout:
        """The waits of one try, as httpx takes them."""
        return httpx.Timeout(connect=self.connect_s, read=self.read_s, write=self.write_s, pool=None)
