import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflows import coerce

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        ("5", 5),
        (" 5 ", 5),
        (5.9, 5),
        (True, 1),
        (0, 1),
        (-(10**400), 1),
        (501, 500),
        (None, 30),
        ("5.5", 30),
        ("many", 30),
        ([], 30),
        (float("inf"), 30),
        (float("nan"), 30),
        ("9" * 5000, 30),
    ],
)
def test_a_whole_number_is_clamped_or_the_default(value: object, expected: int) -> None:
    assert coerce.whole(value, 30, 1, 500) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(512, 512), (513, 576), (1, 64), (0, 64), (-5, 64), (8190, 8192), (10**30, 8192), ("520", 576), (None, 512)],
)
def test_a_side_is_rounded_up_before_it_is_bounded(value: object, expected: int) -> None:
    assert coerce.multiple(value, 512, 64, 8192, of=64) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, 7.0), ("7.5", 7.5), (0, 1.0), (1e300, 100.0), (float("inf"), 100.0), (float("nan"), 8.0), (10**400, 8.0)],
)
def test_a_fraction_is_clamped_or_the_default(value: object, expected: float) -> None:
    assert coerce.number(value, 8.0, 1, 100) == expected


@pytest.mark.parametrize("value", [False, None, 0, "", "false", " False ", "no", "off", "0", [], "null"])
def test_words_for_no_are_false(value: object) -> None:
    assert coerce.flag(value) is False


@pytest.mark.parametrize("value", [True, 1, "true", "yes", "on", "anything", [0]])
def test_everything_else_is_true(value: object) -> None:
    assert coerce.flag(value) is True


def test_text_never_holds_what_utf8_can_not_write() -> None:
    assert coerce.text("a\ud800b") == "a?b"
    assert coerce.text(None) == ""
    assert coerce.text(3) == "3"


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 10**5000], ids=("list", "mapping", "huge"))
def test_what_is_neither_text_nor_a_number_that_can_be_written_is_no_text(value: object) -> None:
    assert coerce.text(value) == ""


def test_entries_are_the_mappings_of_a_list() -> None:
    assert coerce.entries([{"a": 1}, "x", None, {"b": 2}]) == [{"a": 1}, {"b": 2}]
    assert coerce.entries({"a": 1}) == []
    assert coerce.entries("abc") == []
    assert len(coerce.entries([{}] * 10**6)) == coerce.MAX_ENTRIES


@given(ANYTHING)
def test_no_value_is_an_error_or_leaves_its_bounds(value: object) -> None:
    assert 1 <= coerce.whole(value, 30, 1, 500) <= 500
    assert 0.01 <= coerce.number(value, 1.0, 0.01, 1.0) <= 1.0
    side = coerce.multiple(value, 512, 64, 8192, of=64)
    assert 64 <= side <= 8192
    assert side % 64 == 0
    assert isinstance(coerce.flag(value), bool)
    coerce.text(value).encode("utf-8")
    assert all(isinstance(entry, dict) for entry in coerce.entries(value))
