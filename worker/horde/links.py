"""Web addresses as text: shown without their secrets, sent without any change.

A presigned URL is a key: whoever has its query can write to the Horde's storage. And it is signed: one character
quoted anew makes it invalid.
"""

import re
from urllib.parse import urlsplit

import httpx

#: characters between two dots of a host name
LONGEST_LABEL = 63

#: scheme, user part, host and path, then what is secret
_LINK = re.compile(
    r"(?P<scheme>https?://)(?:[^\s/?#@\"']*@)?(?P<place>[^\s?#\"'<>]*)(?P<secret>[?#][^\s\"'<>]*)?", re.IGNORECASE
)


def redact(text: str) -> str:
    """The text with every URL in it cut before its query and without a user part."""
    return _LINK.sub(lambda link: f"{link['scheme']}{link['place']}{'?…' if link['secret'] else ''}", text)


def is_web_address(url: str) -> bool:
    """Whether this is an absolute http(s) URL of printable ASCII without spaces: all that may be sent as it stands."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        httpx.URL(url)
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except (ValueError, httpx.InvalidURL):
        return False
    # The resolver raises what is no network error at labels of another length, and so does a socket at port 0.
    sound = all(0 < len(label) <= LONGEST_LABEL for label in host.removesuffix(".").split("."))
    return parts.scheme in {"http", "https"} and sound and port != 0


def request_target(url: str) -> bytes:
    """Path and query exactly as they stand in the web address, for the request line."""
    parts = urlsplit(url)
    path = parts.path or "/"
    return (f"{path}?{parts.query}" if parts.query else path).encode("ascii")
