import json
from typing import Any

import httpx
import pytest

from worker.errors import (
    HordeBusy,
    HordeError,
    HordeMaintenance,
    HordeRefused,
    HordeUnreachable,
    JobGone,
)
from worker.horde.error_mapping import ADDRESS_TIMEOUT_S, RULES, Endpoint, refusal
from worker.horde.http import Answer
from worker.untrusted.text import LONGEST_QUOTE


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}), data)


def said(rc: str, message: str = "") -> dict[str, str]:
    return {"rc": rc, "message": message}


def test_every_rule_can_be_reached_and_none_is_there_twice() -> None:
    assert len({(rule.rc, rule.at, rule.says) for rule in RULES}) == len(RULES)
    for rule in RULES:
        error = refusal(rule.at or Endpoint.POP, answer(403, said(rule.rc, f"so {rule.says} it is")))
        assert type(error) is rule.raises
        assert error.message.startswith(rule.means)
        assert error.remedy == rule.remedy


def test_a_final_no_that_an_owner_can_mend_says_how() -> None:
    mendable = [
        rule for rule in RULES if rule.raises is HordeRefused and rule.rc not in {"NotModerator", "NoWorkerModSelected"}
    ]
    assert all(rule.remedy for rule in mendable)


def test_the_same_code_means_another_thing_elsewhere() -> None:
    at_pop = refusal(Endpoint.POP, answer(403, said("WrongCredentials")))
    at_submit = refusal(Endpoint.SUBMIT, answer(403, said("WrongCredentials")))
    assert "name" in at_pop.message
    assert "job" in at_submit.message


def test_maintenance_quotes_the_reason_given() -> None:
    error = refusal(Endpoint.POP, answer(403, said("WorkerMaintenance", "back soon")))
    assert isinstance(error, HordeMaintenance)
    assert "was switched" in error.message
    assert error.message.endswith("The Horde says: back soon.")


def test_a_maintenance_that_the_horde_began_is_told_from_one_that_was_switched_on() -> None:
    words = "Maintenance mode activated because worker is dropping too many jobs.Please investigate"
    error = refusal(Endpoint.POP, answer(403, said("WorkerMaintenance", words)))
    assert "The Horde has put this worker into maintenance" in error.message
    assert error.remedy.startswith("Mend what led to it")


def test_rejected_fields_are_shown() -> None:
    body = {"errors": {"threads": "99 is greater than the maximum of 50"}, "message": "Input payload validation failed"}
    error = refusal(Endpoint.POP, answer(400, body))
    assert isinstance(error, HordeRefused)
    assert "threads: 99 is greater than the maximum of 50" in error.message
    assert error.remedy


def test_only_so_many_rejected_fields_are_shown() -> None:
    body = {"errors": {f"field{number}": "x" * 10_000 for number in range(100)}}
    assert len(str(refusal(Endpoint.SUBMIT, answer(400, body)))) < 10 * LONGEST_QUOTE


def test_an_unknown_code_is_a_no_in_the_servers_words() -> None:
    error = refusal(Endpoint.POP, answer(403, said("BrandNew", "not\ntoday \x1b[31m")))
    assert isinstance(error, HordeRefused)
    assert (error.status, error.rc) == (403, "BrandNew")
    assert "not today \\x1b[31m" in error.message
    assert "BrandNew" in error.message


def test_quoted_words_hold_no_presigned_query() -> None:
    error = refusal(Endpoint.SUBMIT, answer(400, said("Odd", "bad https://s.invalid/a.webp?X-Amz-Signature=abc")))
    assert "X-Amz" not in str(error)


@pytest.mark.parametrize("status", [500, 502, 503, 408])
def test_a_failing_server_is_worth_another_try(status: int) -> None:
    error = refusal(Endpoint.SUBMIT, answer(status, {"message": "Internal Server Error"}))
    assert isinstance(error, HordeUnreachable)
    assert error.status == status


def test_a_500_names_what_else_it_may_mean() -> None:
    assert "api_key" in refusal(Endpoint.SUBMIT, answer(500, {})).remedy
    assert "dreamer_name" in refusal(Endpoint.POP, answer(500, {})).remedy


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_an_answer_that_is_no_json_did_not_come_from_the_horde(status: int) -> None:
    error = refusal(Endpoint.POP, answer(status, b"<html>Who are you?</html>"))
    assert isinstance(error, HordeUnreachable)
    assert "horde_url" in error.remedy


def test_a_404_without_a_code_points_at_the_address() -> None:
    error = refusal(Endpoint.POP, answer(404, {"message": "no such place"}))
    assert isinstance(error, HordeRefused)
    assert "horde_url" in error.remedy


def test_a_missing_key_is_named_as_such() -> None:
    error = refusal(Endpoint.POP, answer(400, {"errors": {"apikey": "Missing required parameter"}}))
    assert "api_key" in error.remedy


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [("put into timeout for 1234 more seconds. Please", 1234.0), ("put into timeout. Please", ADDRESS_TIMEOUT_S)],
)
def test_an_address_in_time_out_waits_as_long_as_told(message: str, wait_s: float) -> None:
    error = refusal(Endpoint.POP, answer(403, said("TimeoutIP", message)))
    assert isinstance(error, HordeBusy)
    assert (error.retry_after_s, error.status) == (wait_s, 403)


@pytest.mark.parametrize("rc", ["UnsafeIP", "TooManyNewIPs"])
def test_an_address_that_may_be_taken_later_waits_and_the_owner_is_told_what_may_help(rc: str) -> None:
    error = refusal(Endpoint.POP, answer(403, said(rc)))
    assert isinstance(error, HordeBusy)
    assert (error.retry_after_s, error.status, error.rc) == (ADDRESS_TIMEOUT_S, 403, rc)
    assert error.remedy


def test_a_rate_limit_waits_as_long_as_the_header_says() -> None:
    error = refusal(Endpoint.POP, answer(429, {"message": "60 per 1 second"}, retry_after="3"))
    assert isinstance(error, HordeBusy)
    assert error.retry_after_s == 3.0
    assert "60 per 1 second" in error.message


@pytest.mark.parametrize(("rc", "status"), [("InvalidJobID", 404), ("DuplicateGen", 400), ("AbortedGen", 400)])
def test_a_job_nobody_waits_for_is_gone(rc: str, status: int) -> None:
    error = refusal(Endpoint.SUBMIT, answer(status, said(rc)))
    assert isinstance(error, JobGone)
    assert (error.rc, error.status) == (rc, status)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"rc": 5, "message": {}}', b'{"errors": []}', b'{"message": null}'])
@pytest.mark.parametrize("status", [301, 400, 403, 404, 418, 429, 500, 599])
@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_whatever_is_answered_becomes_an_error(endpoint: Endpoint, status: int, body: bytes) -> None:
    assert isinstance(refusal(endpoint, answer(status, body)), HordeError)
