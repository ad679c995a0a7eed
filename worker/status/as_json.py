"""A snapshot as JSON: every field under its own name, moments and spans in seconds."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from worker.errors import InputRefused
from worker.status.snapshot import SCHEMA_VERSION, Snapshot

#: Digits after the point of seconds and kudos: enough for people and machines.
DIGITS = 3

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Dataclasses as objects, tuples as lists, enumerations by their values."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def versioned(value: Snapshot | Mapping[str, Any]) -> str:
    """One line of JSON, with the version of its form."""
    return dumps({"schema": SCHEMA_VERSION, **plain(value)})


def read_snapshot(fields: Mapping[str, Any]) -> Snapshot:
    """The snapshot that another process wrote as JSON. Raises InputRefused."""
    if fields.get("schema") != SCHEMA_VERSION:
        raise InputRefused(
            "The running worker is of another version than this command.", remedy="Restart the worker; or use --json."
        )
    try:
        snapshot: Snapshot = adapter(Snapshot).validate_python(fields)
    except ValidationError as error:
        raise InputRefused(f"The worker's status can't be read: {error.error_count()} fields are wrong.") from error
    return snapshot


@cache
def adapter(of: type[T]) -> "TypeAdapter[T]":
    """Makes values of a class from what was read as JSON. Made late, for it takes a while."""
    return TypeAdapter(of)


def dumps(value: Any) -> str:
    """One line of JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
