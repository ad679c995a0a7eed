"""Our messages against the Horde's own description of its API, and its captured answers against our reading of them."""

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from worker.errors import (
    HordeError,
    HordeKeyUnknown,
    HordeMaintenance,
    HordeRefused,
    HordeUnreachable,
    JobGone,
)
from worker.horde.agent import LONGEST, bridge_agent
from worker.horde.error_mapping import Endpoint, refusal
from worker.horde.http import Answer
from worker.horde.messages import (
    ExtraSourceImage,
    GenMetadata,
    MaintenanceRequest,
    Message,
    PopRequest,
    PopResponse,
    SubmitRequest,
    SubmitResponse,
    UserDetails,
    WorkerDetails,
)
from worker.horde.pop_parser import read_pop

#: fields of a pop that newer servers know
NEWER = {"sampler_execution_contract_version"}
#: fields of a submit that the server has, and does not want any more
OBSOLETE = {"censored"}

POP = PopRequest(
    name="a worker",
    priority_usernames=["db0#1"],
    nsfw=False,
    models=["stable_diffusion"],
    bridge_agent=bridge_agent("13.0.0", "https://example.invalid/worker"),
    threads=1,
    require_upfront_kudos=False,
    amount=20,
    extra_slow_worker=False,
    max_pixels=4_194_304,
    blacklist=["word"],
    allow_img2img=True,
    allow_painting=True,
    allow_unsafe_ipaddr=True,
    allow_post_processing=True,
    allow_controlnet=True,
    allow_sdxl_controlnet=True,
    allow_lora=True,
    limit_max_steps=False,
)


@pytest.fixture(scope="module")
def swagger(horde_facts: Path) -> dict[str, Any]:
    return json.loads((horde_facts / "messages.json").read_text())


def check(swagger: dict[str, Any], definition: str, body: dict[str, Any]) -> None:
    jsonschema.Draft4Validator({**swagger, "$ref": f"#/definitions/{definition}"}).validate(body)


def declared(swagger: dict[str, Any], definition: str) -> dict[str, Any]:
    """All fields of a definition, those it inherits included."""
    schema = swagger["definitions"][definition]
    fields = dict(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        if "$ref" in part:
            fields |= declared(swagger, part["$ref"].rpartition("/")[2])
        fields |= part.get("properties", {})
    return fields


def answer(row: dict[str, Any]) -> Answer:
    return Answer(row["status"], httpx.Headers(), json.dumps(row["response"]).encode())


def test_a_pop_is_as_described_and_complete(swagger: dict[str, Any]) -> None:
    body = POP.model_dump(mode="json", exclude_none=True)
    check(swagger, "PopInputStable", body)
    assert set(body) == set(declared(swagger, "PopInputStable"))


def test_the_description_would_catch_a_wrong_pop(swagger: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(swagger, "PopInputStable", POP.model_dump() | {"amount": 21})


def test_the_longest_agent_is_the_servers(swagger: dict[str, Any]) -> None:
    assert declared(swagger, "PopInputStable")["bridge_agent"]["maxLength"] == LONGEST


@pytest.mark.parametrize("state", ["ok", "censored", "faulted", "csam"])
def test_a_submit_is_as_described_and_complete(swagger: dict[str, Any], state: Any) -> None:
    meta = [
        GenMetadata(type="batch_index", value="see_ref", ref="0"),
        GenMetadata(type="censorship", value="nsfw"),
        GenMetadata(type="lora", value="download_failed", ref="x" * 999),
    ]
    submit = SubmitRequest(id="an id", generation="R2", state=state, seed=2**64 - 1, gen_metadata=meta)
    body = submit.model_dump(mode="json", exclude_none=True)
    check(swagger, "SubmitInputStable", body)
    assert set(body) == set(declared(swagger, "SubmitInputStable")) - OBSOLETE


def test_the_words_of_our_metadata_are_the_servers(swagger: dict[str, Any]) -> None:
    ours = GenMetadata.model_json_schema()["properties"]
    theirs = declared(swagger, "GenerationMetadataStable")
    assert set(ours) == set(theirs)
    for name in ("type", "value"):
        assert set(ours[name]["enum"]) == set(theirs[name]["enum"])


@pytest.mark.parametrize(
    "change", [MaintenanceRequest(maintenance=True, maintenance_msg="x"), MaintenanceRequest(maintenance=False)]
)
def test_a_change_of_maintenance_is_as_described(swagger: dict[str, Any], change: MaintenanceRequest) -> None:
    body = change.model_dump(mode="json", exclude_none=True)
    check(swagger, "ModifyWorkerInput", body)
    assert set(body) <= set(declared(swagger, "ModifyWorkerInput"))


def test_every_field_we_read_is_one_the_server_writes(swagger: dict[str, Any]) -> None:
    for ours, theirs, extra in [
        (PopResponse, "GenerationPayloadStable", {"problems"}),
        (Message, "ResponseModelMessagePop", set()),
        (ExtraSourceImage, "ExtraSourceImage", set()),
        (SubmitResponse, "GenerationSubmitted", set()),
        (UserDetails, "UserDetails", set()),
        (WorkerDetails, "WorkerDetails", set()),
    ]:
        assert set(ours.model_fields) - extra <= set(declared(swagger, theirs)), theirs


def test_the_paths_we_use_are_the_servers(swagger: dict[str, Any]) -> None:
    for method, path in [
        ("post", "/v2/generate/pop"),
        ("post", "/v2/generate/submit"),
        ("get", "/v2/find_user"),
        ("get", "/v2/workers/name/{worker_name}"),
        ("put", "/v2/workers/{worker_id}"),
    ]:
        operation = swagger["paths"][path][method]
        assert "apikey" in {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"}


def test_every_captured_job_is_read_without_a_problem(horde_facts: Path) -> None:
    read = 0
    for file in sorted((horde_facts / "jobs").glob("*.json")):
        for row in json.loads(file.read_text())["pops"]:
            job = read_pop(answer(row))
            assert job is not None
            assert job.problems == (), file.name
            assert job.job_ids == row["response"]["ids"]
            assert job.uploads == row["response"]["r2_uploads"]
            assert job.payload == row["response"]["payload"]
            assert (job.ttl, job.source_image) == (row["response"]["ttl"], row["response"]["source_image"])
            read += len(job.job_ids)
    assert read >= 12


def test_our_pop_has_the_fields_of_the_captured_ones(horde_facts: Path) -> None:
    sent = json.loads((horde_facts / "pop_empty.json").read_text())["request"]
    assert set(sent) == set(PopRequest.model_fields) - NEWER


def test_every_captured_submit_can_be_said_with_ours(horde_facts: Path) -> None:
    for file in sorted((horde_facts / "jobs").glob("*.json")):
        for row in json.loads(file.read_text())["pops"]:
            for submit in row["submits"]:
                ours = SubmitRequest.model_validate(submit["request"])
                assert ours.model_dump(mode="json", exclude_none=True) == {"gen_metadata": []} | submit["request"]
                assert SubmitResponse.model_validate(submit["response"]).reward == submit["response"]["reward"]


def test_an_empty_pop_holds_no_job(horde_facts: Path) -> None:
    empty = read_pop(answer(json.loads((horde_facts / "pop_empty.json").read_text())))
    assert empty is not None
    assert (empty.job_ids, empty.problems) == ([], ())
    assert empty.skipped["nsfw"] == 0


def test_a_message_to_the_owner_is_read(horde_facts: Path) -> None:
    body = json.loads((horde_facts / "pop_with_message.json").read_text())
    told = read_pop(answer({"status": 200, "response": body}))
    assert told is not None
    assert [message.message for message in told.messages] == ["please update"]
    assert told.job_ids == []


def test_the_captured_owner_and_worker_are_read(horde_facts: Path) -> None:
    owner = UserDetails.model_validate(json.loads((horde_facts / "account.json").read_text()))
    assert (owner.username, owner.trusted, len(owner.worker_ids)) == ("owner#1", True, 2)
    worker = WorkerDetails.model_validate(json.loads((horde_facts / "worker.json").read_text()))
    assert (worker.name, worker.maintenance_mode, worker.online) == ("w-ttl", False, True)


#: what each measured refusal means to a worker: where, which case, the kind of error, and what the owner must read
MEASURED: list[tuple[str, str, type[HordeError], str]] = [
    ("pop", "no apikey", HordeRefused, "api_key"),
    ("pop", "unknown apikey", HordeKeyUnknown, "api_key"),
    ("pop", "anonymous key", HordeRefused, "anonymous"),
    ("pop", "no name", HordeRefused, "name:"),
    ("pop", "name owned by another user (wrong credentials)", HordeRefused, "dreamer_name"),
    ("pop", "only unknown models, untrusted", HordeRefused, "models_to_load"),
    ("pop", "empty models list", HordeRefused, "models_to_load"),
    ("pop", "models omitted", HordeRefused, "models_to_load"),
    ("pop", "priority_usernames without #", HordeRefused, "priority_usernames"),
    ("pop", "priority_usernames bob#x", HordeUnreachable, "priority_usernames"),
    ("pop", "max_pixels as string", HordeRefused, "max_pixels:"),
    ("pop", "threads 99", HordeRefused, "threads:"),
    ("pop", "amount 50", HordeRefused, "amount:"),
    ("pop", "colab in name", HordeRefused, "colab"),
    ("pop", "profane name", HordeRefused, "dreamer_name"),
    ("pop", "name 150 chars", HordeUnreachable, "dreamer_name"),
    ("pop", "untrusted user: distinct worker #2", HordeRefused, "trusted"),
    ("pop", "special model of other alias", HordeRefused, "requester#2"),
    ("pop", "dreamer with an alchemist's name", HordeRefused, "dreamer_name"),
    ("pop", "pop in maintenance", HordeMaintenance, "back soon"),
    ("pop", "pop by flagged user", HordeRefused, "flagged"),
    ("submit", "unknown id", JobGone, ""),
    ("submit", "malformed id", JobGone, ""),
    ("submit", "unknown api key", HordeUnreachable, "api_key"),
    ("submit", "key of another user", HordeRefused, "api_key"),
    ("submit", "no seed", HordeRefused, "seed:"),
    ("submit", "seed is a string", HordeRefused, "seed:"),
    ("submit", "no generation", HordeRefused, "generation:"),
    ("submit", "gen_metadata bad type", HordeRefused, "gen_metadata.0.type:"),
    ("submit", "gen_metadata bad value", HordeRefused, "gen_metadata.0.value:"),
    ("submit", "gen_metadata free value for information", HordeRefused, "gen_metadata.0.value:"),
    ("submit", "gen_metadata ref 256 chars", HordeRefused, "gen_metadata.0.ref:"),
    ("submit", "again (duplicate)", JobGone, ""),
    ("submit", "faulted after ok", JobGone, ""),
    ("submit", "ok after faulted (same id)", JobGone, ""),
    ("submit", "51 metadata entries", HordeRefused, "Max is 50"),
    ("submit", "unknown state", HordeRefused, "state:"),
    ("submit", "seed 2^63", HordeUnreachable, ""),
    ("other", "PUT worker maintenance by other user", HordeRefused, "another account"),
    ("other", "PUT worker nothing", HordeRefused, "empty"),
    ("other", "PUT worker paused by non-mod", HordeRefused, "moderators"),
    ("other", "PUT unknown worker", HordeRefused, "no such worker"),
]
ENDPOINTS = {"pop": Endpoint.POP, "submit": Endpoint.SUBMIT, "other": Endpoint.MAINTENANCE}


@pytest.fixture(scope="module")
def errors(horde_facts: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads((horde_facts / "errors.json").read_text())


@pytest.mark.parametrize(("place", "case", "kind", "words"), MEASURED, ids=[f"{row[0]}: {row[1]}" for row in MEASURED])
def test_a_measured_refusal_tells_the_owner(
    errors: Any, place: str, case: str, kind: type[HordeError], words: str
) -> None:
    row = next(row for row in errors[place] if row["case"] == case)
    error = refusal(ENDPOINTS[place], answer(row))
    assert type(error) is kind
    assert (error.status, error.rc) == (row["status"], row["response"].get("rc", ""))
    assert words in str(error)


def test_no_measured_refusal_is_left_out(errors: Any) -> None:
    refused = {(place, row["case"]) for place in ENDPOINTS for row in errors[place] if row["status"] >= 400}
    assert refused == {(place, case) for place, case, _, _ in MEASURED}
