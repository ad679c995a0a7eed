"""HTTP to an engine on this machine."""

import ssl

import httpx

#: Trusts nobody, and is never asked: an engine speaks plain HTTP. A context of httpx's own would read all the
#: certificates of the world for each engine, and hold the event loop up for a tenth of a second.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def loopback_client(url: str, *, token: str, timeout_s: float) -> httpx.AsyncClient:
    """A client of one engine, to be closed. Proxies of the environment do not count."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, trust_env=False, verify=_NO_TLS)
