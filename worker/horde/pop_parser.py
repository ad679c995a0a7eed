"""What can be read of a pop's answer, however broken: above all the job ids, for each of them wants an answer.

A worker that drops a job over a field it can't read leaves the requester waiting for the whole time to live, and is
itself put into maintenance after twenty such jobs within an hour.
"""

import re
from typing import Any

from loguru import logger
from pydantic import ValidationError

from worker.horde.http import Answer
from worker.horde.messages import PopResponse

#: fields that no image depends on; one that can't be read is left at its default
DISPENSABLE = frozenset({"messages", "skipped", "ttl"})
#: most ids taken from a body that is no JSON: the server's own limit of a pop's `amount`
MOST_LOOSE_IDS = 20

_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
#: `"id"` or `"ids"` as a key (within a prompt its quotes would be escaped) and what follows, up to the value's end
_LOOSE_IDS = re.compile(rb'"ids?"\s*:\s*(\[[^\]]*|\{[^}]*|"[^"]*)')


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
    ids = list(dict.fromkeys([*_strings(fields.get("ids")), *_strings(fields.get("id"))]))
    if not ids and (fields.get("id") or fields.get("ids")):
        ids = _loose_ids(answer.body)
    response, problems = read_fields(fields | {"id": ids[0] if ids else None, "ids": ids, "problems": ()})
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


def _strings(value: Any) -> list[str]:
    candidates = value if isinstance(value, list) else [value]
    return [one for one in candidates if isinstance(one, str) and one]


def _loose_ids(body: bytes) -> list[str]:
    """Ids by their looks. Messages have ids too, and come after the job's."""
    before_messages, _, _ = body.partition(b'"messages"')
    found = [uuid.decode() for value in _LOOSE_IDS.findall(before_messages) for uuid in _UUID.findall(value)]
    return list(dict.fromkeys(found))[:MOST_LOOSE_IDS]
