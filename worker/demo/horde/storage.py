"""The embedded Horde's object storage: presigned URLs, uploads, source pictures. No sockets: bytes in, bytes out.

URLs look like S3's query-signed ones and are checked as strictly: method, object, moment and lifetime are signed.
The oldest objects give way when the storage is full.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timezone
from urllib.parse import quote, urlencode

from worker.demo.horde.records import Refused

UPLOADS = "stable-horde"
SOURCES = "stable-horde-source-images"
#: How long a presigned URL is good for.
EXPIRES_S = 1800
#: Oldest objects are dropped beyond this.
CAPACITY_BYTES = 512 * 1024 * 1024

_ALGORITHM = "AWS4-HMAC-SHA256"
_DATE = "%Y%m%dT%H%M%SZ"


class ObjectStorage:
    """Objects by (bucket, name), and the signatures that open them."""

    def __init__(self, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._secret = secrets.token_bytes(32)
        self._objects: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._capacity_bytes = capacity_bytes
        self._size_bytes = 0

    def sign(self, method: str, bucket: str, name: str, *, now: float, base_url: str) -> str:
        """A URL that allows `method` on one object for half an hour from `now` (seconds since the epoch)."""
        path = f"/r2/{bucket}/{quote(name)}"
        date = datetime.fromtimestamp(now, timezone.utc).strftime(_DATE)
        query = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"local/{date[:8]}/auto/s3/aws4_request",
            "X-Amz-Date": date,
            "X-Amz-Expires": str(EXPIRES_S),
            "X-Amz-SignedHeaders": "host",
        }
        signature = self._signature(method, bucket, name, query)
        return f"{base_url}{path}?{urlencode({**query, 'X-Amz-Signature': signature})}"

    def authorize(self, method: str, bucket: str, name: str, query: Mapping[str, str], *, now: float) -> None:
        """Raises Refused (403, S3's code as `rc`) unless the query is a signature for this that has not expired."""
        signed = {key: value for key, value in query.items() if key != "X-Amz-Signature"}
        given = query.get("X-Amz-Signature", "")
        if not hmac.compare_digest(given, self._signature(method, bucket, name, signed)):
            raise Refused(403, "SignatureDoesNotMatch", "The signature is not the one calculated here.")
        dated = datetime.strptime(signed["X-Amz-Date"], _DATE).replace(tzinfo=timezone.utc).timestamp()
        if now > dated + int(signed["X-Amz-Expires"]):
            raise Refused(403, "AccessDenied", "Request has expired")

    def put(self, bucket: str, name: str, data: bytes) -> None:
        """Stores or replaces an object."""
        self._size_bytes += len(data) - len(self._objects.pop((bucket, name), b""))
        self._objects[bucket, name] = data
        while self._size_bytes > self._capacity_bytes and len(self._objects) > 1:
            _, dropped = self._objects.popitem(last=False)
            self._size_bytes -= len(dropped)

    def get(self, bucket: str, name: str) -> bytes:
        """The object's bytes. Raises Refused (404) when there is none."""
        try:
            return self._objects[bucket, name]
        except KeyError:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.") from None

    def _signature(self, method: str, bucket: str, name: str, query: Mapping[str, str]) -> str:
        text = "\n".join((method, bucket, name, *(f"{key}={value}" for key, value in sorted(query.items()))))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
