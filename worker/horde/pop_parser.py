"""What can be read of a pop's answer, however broken: above all the job ids, for each of them needs an answer.

A worker that drops a job over a field it can't read leaves the requester waiting for the whole time to live, and is
itself put into maintenance after twenty such jobs within an hour.
"""

import re
from itertools import islice
from typing import Any, Final

from loguru import logger
from pydantic import ValidationError

from worker.horde.http import Answer
from worker.horde.messages import PopResponse

#: Fields that no image depends on; one that can't be read is left at its default.
DISPENSABLE: Final = frozenset({"messages", "skipped", "ttl"})
#: Most ids of one job: the server's own limit of a pop's `amount`.
MAX_IDS: Final = 20
#: Most entries that are read of each list; the server sends one address per id, five extra pictures, few messages.
MAX_ENTRIES: Final[dict[str, int]] = {"r2_uploads": MAX_IDS, "extra_source_images": 20, "messages": 20}
#: Characters of an id; the server's are UUIDs, and it stands in log lines, addresses and names of pictures.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
#: `"id"` or `"ids"` as a key (within a prompt its quotes would be escaped) and what follows, up to the value's end
_LOOSE_IDS: Final = re.compile(rb'"ids?"\s*:\s*(\[[^\]]*|\{[^}]*|"[^"]*)')


def read_pop(answer: Answer) -> PopResponse | None:
    """What a pop brought, with `problems` where a job can't be done; None when it is neither a job nor a no."""
    fields = answer.json_object()
    if fields is None or not {"id", "ids"} & fields.keys():
        ids = _loose_ids(answer.body)
        problem = (
            f"the answer breaks off: {answer.cut}"
            if answer.cut
            else "the answer is not a job as the Horde describes it"
        )
        return PopResponse(ids=ids, problems=(problem,)) if ids else None
    ids = list(dict.fromkeys([*_ids(fields.get("ids")), *_ids(fields.get("id"))]))
    if not ids and (fields.get("id") or fields.get("ids")):
        ids = _loose_ids(answer.body)
    if len(ids) > MAX_IDS:
        logger.bind(action="pop_ids_cut", ids=len(ids)).warning(
            "The Horde handed out a job of {} images; only the first {} are made.", len(ids), MAX_IDS
        )
        ids = ids[:MAX_IDS]
    response, problems = read_fields(_cut_lists(fields) | {"id": ids[0] if ids else None, "ids": ids, "problems": ()})
    if not ids:
        return response
    return response.model_copy(update={"problems": (*problems, *_gaps(response))})


def read_fields(fields: dict[str, Any]) -> tuple[PopResponse, tuple[str, ...]]:
    """All fields that can be read; what is wrong with the others, without their values: those may be secret."""
    try:
        return PopResponse.model_validate(fields), ()
    except ValidationError as error:
        wrong = {str(one["loc"][0]): one["msg"] for one in error.errors(include_input=False, include_url=False)}
    for name in wrong.keys() & DISPENSABLE:
        logger.bind(action="pop_field_ignored", field=name).warning(
            "The pop's {} can't be read: {}.", name, wrong[name]
        )
    readable = {name: value for name, value in fields.items() if name not in wrong}
    problems = tuple(f"{name}: {what}" for name, what in wrong.items() if name not in DISPENSABLE)
    return PopResponse.model_validate(readable), problems


def _gaps(job: PopResponse) -> list[str]:
    """What a job can't be done without, and this one lacks."""
    gaps = []
    if not job.payload:
        gaps.append("payload: missing")
    if not job.model:
        gaps.append("model: missing")
    if len(job.uploads) != len(job.job_ids):
        gaps.append(f"r2_uploads: {len(job.uploads)} addresses for {len(job.job_ids)} images")
    return gaps


def _cut_lists(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with each list that grows cut to what can be of use."""
    return {
        name: value[: MAX_ENTRIES[name]] if name in MAX_ENTRIES and isinstance(value, list) else value
        for name, value in fields.items()
    }


def _ids(value: Any) -> list[str]:
    candidates = value if isinstance(value, list) else [value]
    return [one for one in candidates if isinstance(one, str) and _ID.fullmatch(one)]


def _loose_ids(body: bytes) -> list[str]:
    """Ids by their looks. Messages have ids too, and come after the job's."""
    # Without its zero bytes ASCII in UTF-16 or UTF-32, which JSON is not, reads like any other.
    before_messages, _, _ = body.replace(b"\0", b"").partition(b'"messages"')
    found = (uuid[0].decode() for value in _LOOSE_IDS.finditer(before_messages) for uuid in _UUID.finditer(value[1]))
    return list(dict.fromkeys(islice(found, 2 * MAX_IDS)))[:MAX_IDS]
