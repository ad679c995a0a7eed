"""docs/payload.md tells of every field there is, and what it tells is so."""

import json
import re
from pathlib import Path

from tools.payload_page import ENTRIES, payload_page
from worker.workflows import payload
from worker.workflows.library import Library

ROOT = Path(__file__).resolve().parents[2]
#: How the request's code names a field of a payload.
READ = re.compile(r'(?:payload\.get\(|payload\[|_side\(payload, )"(\w+)"')


def test_the_page_is_what_the_code_tells() -> None:
    assert (ROOT / "docs" / "payload.md").read_text(encoding="utf-8") == payload_page(Library.load()), "run: make pages"


def test_every_field_that_is_read_is_told() -> None:
    read = set(READ.findall(Path(payload.__file__).read_text("utf-8")))
    assert len(read) > 20
    assert read <= {entry.name for entry in ENTRIES}


def test_every_field_that_the_server_may_send_is_told(horde_facts: Path) -> None:
    definitions = json.loads((horde_facts / "messages.json").read_text("utf-8"))["definitions"]

    def fields(name: str) -> set[str]:
        definition = definitions[name]
        found = set(definition.get("properties", {}))
        for part in definition.get("allOf", []):
            found |= set(part.get("properties", {}))
            found |= fields(part["$ref"].rpartition("/")[2]) if "$ref" in part else set()
        return found

    told = {entry.name for entry in ENTRIES}
    assert fields("ModelPayloadStable") <= told
    for file in (horde_facts / "jobs").glob("*.json"):
        assert set(json.loads(file.read_text("utf-8"))["pops"][0]["response"]["payload"]) <= told
