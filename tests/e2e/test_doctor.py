"""`horde-bridge doctor` tells what is missing, and what to do about it."""

import json

import pytest

from tests.e2e.conftest import MODEL
from worker.demo.horde.records import User

pytestmark = pytest.mark.e2e


def findings(owner, *arguments):
    if not owner.config_file.exists():
        owner.configure()
    done = owner.command("doctor", "--json", *arguments)
    return {finding["subject"]: finding for finding in json.loads(done.stdout)}, done.returncode


def test_everything_is_looked_at_and_the_account_is_found(owner):
    found, _ = findings(owner)
    assert list(found) == ["runtime", "packages", "card", "memory", "settings", "models", "disk", "account", "worker"]
    assert found["account"]["text"].startswith("owner#1, ")
    assert found["worker"]["verdict"] == "good"


def test_wrong_settings_are_told_with_their_line_and_end_in_a_failure(owner):
    owner.configure(max_power="lots")
    found, code = findings(owner)
    assert code == 1
    assert "max_power: 'lots' is not allowed" in found["settings"]["text"]


def test_a_name_of_another_account_is_told(owner):
    owner.horde.state.add_user(User("other", 9, "o" * 22))
    body = {"name": "taken", "bridge_agent": "test:1:x", "models": [MODEL], "max_pixels": 4096}
    owner.horde.state.pop("o" * 22, body, base_url=owner.horde.url)
    owner.configure(dreamer_name="taken")
    found, code = findings(owner)
    assert code == 1
    assert "belongs to another account" in found["Horde"]["text"]


def test_a_key_that_the_horde_does_not_know_is_told_with_what_to_do(owner):
    owner.configure(api_key="x" * 22)
    found, code = findings(owner)
    assert code == 1
    assert found["Horde"]["remedy"]


def test_the_anonymous_key_is_told_without_asking_anyone(owner):
    owner.configure(api_key="0000000000")
    found, code = findings(owner, "--offline")
    assert code == 1
    assert "register" in found["settings"]["remedy"]
    assert "account" not in found


def test_a_secret_is_not_among_what_is_told(owner):
    owner.horde.state.add_user(User("other", 9, "a-very-secret-key-0000"))
    owner.configure(api_key="a-very-secret-key-0000")
    assert "a-very-secret-key" not in owner.command("doctor").stdout


def test_for_people_each_finding_is_a_line(owner):
    owner.configure()
    lines = owner.command("doctor", "--offline").stdout.splitlines()
    assert len(lines) > 5
    assert all(line.split()[0] in ("good", "doubtful", "bad") for line in lines)
