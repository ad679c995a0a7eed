"""Which release is next, and what is new in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import InputRefused
from worker.update.releases import MAX_ARCHIVE_BYTES, MOST_LINES, changes_between, is_trial, newest, version_key

BASE = "https://example.org/get/releases.json"
HASH = "ab" * 32


def entry(version: str, **more: object) -> dict[str, object]:
    return {"version": version, "archive": f"hb-{version}.tar.gz", "sha256": HASH, "bytes": 1000, **more}


def document(*entries: object) -> dict[str, object]:
    return {"format": 1, "releases": list(entries)}


def found(*entries: object, current: str = "0.2.0", channel: str = "stable") -> str | None:
    offer = newest(document(*entries), base=BASE, current=current, channel=channel)
    return offer.version if offer else None


def test_versions_are_in_their_order():
    names = ["0.1.0", "0.2.0a1", "0.2.0b1", "0.2.0-beta.2", "0.2.0rc1", "0.2.0", "0.10.0", "v1.0.0"]
    keys = [version_key(name) for name in names]
    assert None not in keys
    assert keys == sorted(keys)  # type: ignore[type-var]
    assert [is_trial(name) for name in names] == [False, True, True, True, True, False, False, False]


@given(st.text(max_size=30))
def test_what_is_no_version_has_no_place_in_the_order(text):
    key = version_key(text)
    assert key is None or len(key) == 5


def test_the_newest_of_the_channel_is_offered_and_never_an_older_one():
    assert found(entry("0.3.0"), entry("0.4.0b1"), entry("0.2.9")) == "0.3.0"
    assert found(entry("0.3.0"), entry("0.4.0b1"), channel="beta") == "0.4.0b1"
    assert found(entry("0.3.0", channel="beta")) is None
    assert found(entry("0.1.0"), entry("0.2.0")) is None
    assert found(entry("0.2.0"), current="0.2.0rc1", channel="beta") == "0.2.0"
    assert found() is None


@pytest.mark.parametrize(
    "wrong",
    [
        None, 3, "0.9.0", [], {}, entry("9.9"), entry("0.9.0", sha256="x"), entry("0.9.0", bytes=0),
        entry("0.9.0", bytes=MAX_ARCHIVE_BYTES + 1), entry("0.9.0", archive=""), entry("0.9.0", notes="many"),
        entry("0.9.0; rm -rf /"), entry("../0.9.0"),
    ],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_left_out(wrong):
    assert found(wrong, entry("0.3.0")) == "0.3.0"


@pytest.mark.parametrize("wrong", [None, [], {}, {"format": 2, "releases": []}, {"format": 1, "releases": {}}])
def test_what_is_no_list_is_refused(wrong):
    with pytest.raises(InputRefused):
        newest(wrong, base=BASE, current="0.2.0", channel="stable")


def test_addresses_start_from_that_of_the_list():
    offer = newest(document(entry("0.3.0", notes=["\x1b[31mred"])), base=BASE, current="0.2.0", channel="stable")
    assert offer is not None
    assert offer.url == "https://example.org/get/hb-0.3.0.tar.gz"
    assert "\x1b" not in offer.notes[0]


CHANGELOG = """# Changelog

## Unreleased

- not yet

## [0.3.0] - 2026-11-01

### Added
- three

## 0.2.1 (2026-10-01)
- two one

## v0.2.0
- two
"""


def test_changes_are_those_after_the_old_version_up_to_the_new_one():
    assert changes_between(CHANGELOG, "0.2.0", "0.3.0") == ["### Added", "- three", "- two one"]
    assert changes_between(CHANGELOG, "0.2.0", "0.2.1") == ["- two one"]
    assert changes_between(CHANGELOG, "0.3.0", "0.4.0b1") == ["- not yet"]
    assert changes_between("", "0.2.0", "0.3.0") == []


def test_long_changelogs_are_cut_with_a_word_about_it():
    lines = changes_between("## 0.3.0\n" + "- x\n" * 500, "0.2.0", "0.3.0")
    assert len(lines) == MOST_LINES + 1
    assert "CHANGELOG.md" in lines[-1]
