"""Presigned addresses: what they open, for how long, and what they do not."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from worker.demo.horde.records import Refused
from worker.demo.horde.storage import EXPIRES_S, ObjectStorage

NOW = 1_800_000_000.0


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


@pytest.fixture
def storage() -> ObjectStorage:
    return ObjectStorage()


def signed(storage: ObjectStorage, method: str = "PUT") -> dict[str, str]:
    return query_of(storage.sign(method, "bucket", "a.webp", now=NOW, base_url="http://horde.test"))


def test_an_address_opens_its_object_until_it_expires(storage: ObjectStorage) -> None:
    storage.authorize("PUT", "bucket", "a.webp", signed(storage), now=NOW + EXPIRES_S)
    with pytest.raises(Refused, match="expired"):
        storage.authorize("PUT", "bucket", "a.webp", signed(storage), now=NOW + EXPIRES_S + 1)


@pytest.mark.parametrize(
    ("method", "bucket", "name"), [("GET", "bucket", "a.webp"), ("PUT", "other", "a.webp"), ("PUT", "bucket", "b.webp")]
)
def test_an_address_opens_nothing_else(method: str, bucket: str, name: str, storage: ObjectStorage) -> None:
    with pytest.raises(Refused) as refused:
        storage.authorize(method, bucket, name, signed(storage), now=NOW)
    assert (refused.value.status, refused.value.rc) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("change", [{"X-Amz-Expires": "999999"}, {"X-Amz-Signature": ""}, {"extra": "1"}])
def test_a_changed_address_opens_nothing(change: dict[str, str], storage: ObjectStorage) -> None:
    with pytest.raises(Refused, match="signature"):
        storage.authorize("PUT", "bucket", "a.webp", {**signed(storage), **change}, now=NOW)


def test_an_object_is_replaced_and_a_missing_one_is_told(storage: ObjectStorage) -> None:
    storage.put("bucket", "a.webp", b"old")
    storage.put("bucket", "a.webp", b"new")
    assert storage.get("bucket", "a.webp") == b"new"
    with pytest.raises(Refused) as refused:
        storage.get("bucket", "b.webp")
    assert refused.value.status == 404


def test_the_oldest_objects_give_way_when_the_storage_is_full() -> None:
    storage = ObjectStorage(capacity_bytes=10)
    for name in ("a", "b", "c"):
        storage.put("bucket", name, b"1234")
    assert storage.get("bucket", "c") == storage.get("bucket", "b") == b"1234"
    with pytest.raises(Refused):
        storage.get("bucket", "a")
