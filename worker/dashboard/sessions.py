"""Who may see the page: the token, the sessions of browsers that had it, and how often a wrong one may be tried.

A session is a signed value in a cookie: nothing is kept for it here, so a million of them cost nothing, none can be
made up, and a restart of the worker does not end it. Signing out changes the key that signs, and ends all of them.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from worker.bounded_dict import BoundedDict
from worker.clock import Clock, monotonic

#: Seconds that a session lasts: thirty days.
SESSION_S = 30 * 86_400
#: Characters of a cookie's value that are looked at.
LONGEST_SESSION = 200
#: Characters from which on a token is not found by trying, whoever made it, and different ones among them.
BEYOND_GUESSING, VARIED = 40, 10
#: Wrong tokens from one address at once, and seconds until one more may be tried.
BURST, EVERY_S = 10, 6.0
#: The same for all other machines together, so that many addresses are no way around.
COMMON_BURST, COMMON_EVERY_S = 100, 1.0
#: Addresses that are remembered.
MOST_ADDRESSES = 1024
#: Bits of an IPv6 address that one customer has for himself.
CUSTOMER_BITS = 64


@dataclass(frozen=True)
class Session:
    """A browser that has shown the token."""

    id: str
    #: that forms of this session carry, and no other page knows
    csrf: str


class Sessions:
    """Makes and knows sessions of one token."""

    def __init__(
        self,
        token: str,
        key: str,
        *,
        keep: Callable[[str], None] = lambda _: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`key` signs sessions beside the token; `keep` is called with the one that replaces it."""
        self._token = hashlib.sha256(token.encode()).digest()
        self._announcing = hashlib.sha256(announcing_token(token).encode()).digest()
        self._key = key
        self._keep = keep
        self._wall = wall
        #: of our own making, or as long: nobody finds it by trying
        self.beyond_guessing = len(token) >= BEYOND_GUESSING and len({*token}) >= VARIED
        #: of the cookie: workers on one machine share its host, and so their cookies
        self.cookie = f"horde_bridge_{hashlib.sha256(self._token).hexdigest()[:8]}"

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes as long for each that is not."""
        return hmac.compare_digest(hashlib.sha256(given.encode("utf-8", "replace")).digest(), self._token)

    def may_announce(self, given: str) -> bool:
        """Whether this is what other workers of the owner show to be listed here."""
        return hmac.compare_digest(hashlib.sha256(given.encode("utf-8", "replace")).digest(), self._announcing)

    def begin(self) -> str:
        """The cookie's value of a new session. Never one that a browser brought along."""
        return self._signed(f"{secrets.token_urlsafe(16)}.{int(self._wall()) + SESSION_S}")

    def find(self, value: str) -> Session | None:
        """The session of a cookie's value; None for what is none, or is one no more."""
        if not 0 < len(value) <= LONGEST_SESSION or value.count(".") != 2:  # noqa: PLR2004 - id, end, signature
            return None
        body = value.rpartition(".")[0]
        id_, _, end = body.partition(".")
        if not hmac.compare_digest(value.encode("utf-8", "replace"), self._signed(body).encode("utf-8", "replace")):
            return None
        if not end.isdecimal() or int(end) < self._wall():
            return None
        return Session(id_, self._sign(f"csrf {id_}"))

    def end_all(self) -> None:
        """No session counts any more."""
        self._key = secrets.token_urlsafe(32)
        self._keep(self._key)

    def _signed(self, body: str) -> str:
        return f"{body}.{self._sign(f'session {body}')}"

    def _sign(self, text: str) -> str:
        return hmac.new(self._token + self._key.encode(), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def announcing_token(token: str) -> str:
    """What a worker shows to be listed on another's page: it opens nothing else, should somebody overhear it."""
    return hmac.new(token.encode(), b"announce a worker", hashlib.sha256).hexdigest()


class _Bucket:
    """So many tries at once, and one more every so often."""

    def __init__(self, burst: int, every_s: float, now: float) -> None:
        self._burst, self._every_s = burst, every_s
        self._left, self._at = float(burst), now

    def wait_s(self, now: float) -> float:
        """Seconds until a try is left; 0 for now."""
        self._left, self._at = min(self._burst, self._left + (now - self._at) / self._every_s), now
        return 0.0 if self._left >= 1 else (1 - self._left) * self._every_s

    def take(self) -> None:
        self._left -= 1


class Attempts:
    """Counts wrong tokens. Signed-in browsers are not concerned, and each address waits for its own mistakes only."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._addresses: BoundedDict[str, _Bucket] = BoundedDict(MOST_ADDRESSES)
        self._common = _Bucket(COMMON_BURST, COMMON_EVERY_S, clock())

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try a token; 0 for now."""
        now = self._clock()
        common = 0.0 if is_this_machine(address) else self._common.wait_s(now)
        bucket = self._addresses.get(customer(address))
        return max(common, bucket.wait_s(now) if bucket else 0.0)

    def wrong(self, address: str) -> None:
        whose, now = customer(address), self._clock()
        bucket = self._addresses.get(whose) or _Bucket(BURST, EVERY_S, now)
        self._addresses[whose] = bucket
        bucket.wait_s(now)
        bucket.take()
        if not is_this_machine(address):
            self._common.wait_s(now)
            self._common.take()


def ip_of(address: str) -> IPv4Address | IPv6Address | None:
    """An IP address; None for what is none, such as a name."""
    try:
        return ip_address(address)
    except ValueError:
        return None


def customer(address: str) -> str:
    """What stands for all addresses that one customer of a network has, this machine's among them."""
    ip = ip_of(address)
    if ip is None:
        return address[:64]
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ip if ip.is_loopback else ip_network((int(ip), CUSTOMER_BITS), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)


def is_this_machine(address: str) -> bool:
    """Whether it is an address of the loopback."""
    ip = ip_of(address)
    return ip is not None and ip.is_loopback
