"""Forms that browsers send (application/x-www-form-urlencoded), bounded before they are taken apart."""

from typing import Final
from urllib.parse import parse_qsl

from worker.errors import InputRefused

MOST_FIELDS: Final = 500


def read_form(body: bytes) -> dict[str, list[str]]:
    """Each field's values, in their order. Raises InputRefused. `body` is bounded by whoever received it."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=MOST_FIELDS
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise InputRefused("The form can't be read, or has too many fields.") from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields
