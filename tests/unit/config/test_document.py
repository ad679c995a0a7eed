import sys
from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config.document import read_document
from worker.config.setting import Setting
from worker.errors import ConfigError


def flaw(text):
    with pytest.raises(ConfigError) as caught:
        read_document(text, "b.yaml")
    return caught.value


def test_entries_carry_their_lines_and_the_text_as_written():
    text = "# first\nmax_power: 32\n\nblacklist:\n  - no\n  -\n  - 007\n  - ''\nname: null\nflow: [a,\n  b]\n"
    assert read_document(text, "b.yaml") == (
        Setting("max_power", "32", "b.yaml:2"),
        Setting("blacklist", ["no", "007"], "b.yaml:4", ("b.yaml:5", "b.yaml:7")),
        Setting("name", None, "b.yaml:9"),
        Setting("flow", ["a", "b"], "b.yaml:10", ("b.yaml:10", "b.yaml:11")),
    )


def test_repeated_keys_are_all_kept():
    assert read_document("a: 1\na: 2", "b.yaml") == (Setting("a", "1", "b.yaml:1"), Setting("a", "2", "b.yaml:2"))


def test_quoted_words_are_text_whatever_they_look_like():
    assert read_document("name: 'null'\nother: ''", "b.yaml") == (
        Setting("name", "null", "b.yaml:1"),
        Setting("other", None, "b.yaml:2"),
    )


def test_windows_files_read_like_others():
    assert read_document("\ufeffa: 1\r\nb: C:\\models\r\n", "b.yaml") == (
        Setting("a", "1", "b.yaml:1"),
        Setting("b", r"C:\models", "b.yaml:2"),
    )


def test_backslashes_stay_outside_double_quotes():
    text = "a: C:\\new\\x # C:\\y\nb: 'D:\\temp'"
    assert [entry.value for entry in read_document(text, "b.yaml")] == [r"C:\new\x", r"D:\temp"]


def test_anchors_and_aliases_work():
    assert read_document("a: &x [p, q]\nb: *x", "b.yaml")[1].value == ["p", "q"]


def test_a_file_of_comments_has_no_entries():
    assert read_document("# nothing\n---\n", "b.yaml") == ()


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("a: 1\nb:\n\t- x\n", "b.yaml:3: ", "tabs"),
        ('a: 1\ncache_home: "C:\\models"', "b.yaml:2: column 17", "backslash"),
        ('cache_home: "C:\\Users"', "b.yaml:1: column 18", "backslash"),
        ('cache_home: "\\UFFFFFFFF"', "b.yaml", "backslash"),
        ("a: 1\nname: x: y", "b.yaml:2: column 8", "': '"),
        ("a: 1\n b: 2", "b.yaml:2: column 3", "indentation"),
        ("name: *star", "b.yaml:1: column 7", "* or &"),
        ("name: @home", "b.yaml:1: column 7", "quotes"),
        ("name: 'open\n\n", "b.yaml:1: ", "at the end"),
        ("a: 1\n---\nb: 2", "b.yaml:2: column 1", "second document"),
        ("a: 1\nb: x\x07y", "b.yaml:2: column 5", "control character"),
        ("a: [1, 2", "b.yaml:1", "close its bracket"),
    ],
)
def test_a_flaw_names_its_place_and_the_usual_cause(text, place, cause):
    error = flaw(text)
    assert error.message.startswith(place)
    assert cause in error.remedy


@pytest.mark.parametrize(
    ("text", "place"),
    [("- a\n- b", "b.yaml:1: "), ("just text", "b.yaml:1: "), ("a: 1\n? [x]\n: y", "b.yaml:2: ")],
)
def test_what_is_no_list_of_keys_is_refused(text, place):
    assert flaw(text).message.startswith(place)


def test_aliases_cannot_grow_without_bound():
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "too many" in flaw("\n".join(layers)).message
    assert "nested" in flaw("a: &a [*a]").message
    assert "nested" in flaw("a: " + "[" * sys.getrecursionlimit()).message


@settings(deadline=None)  # the machine may be busy
@given(st.text())
def test_any_text_is_read_or_refused(text):
    with suppress(ConfigError):  # whatever else is raised fails the test
        assert all(setting.place.startswith("b.yaml:") for setting in read_document(text, "b.yaml"))


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.text(min_size=1), st.text() | st.lists(st.text(min_size=1))))
def test_what_yaml_writes_is_read_back(mapping):
    entries = read_document(yaml.safe_dump(mapping), "b.yaml")
    assert {entry.name for entry in entries} == set(mapping)
