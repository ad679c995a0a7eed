"""JSON as nobody should send it. The kinds are those of public parsing test suites; the samples are our own."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import InputRefused, WorkerError
from worker.untrusted import json_reader
from worker.untrusted.json_reader import JsonBounds, read_json, read_json_aside, read_json_object

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


@given(JSON_VALUES)
def test_what_json_can_hold_is_read_as_python_writes_it(value):
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(JSON_VALUES)
def test_large_documents_are_read_like_small_ones(value):
    data = json.dumps(value)
    assert json_reader._PATIENT.decode(data) == json_reader._QUICK.decode(data)
    bounds = JsonBounds()
    assert json_reader._count_values(data.encode(), bounds) == json_reader._count_at_once(data.encode(), bounds)


@given(st.text('[]{}",:\\1', max_size=60))
def test_a_document_is_refused_or_not_however_its_values_are_counted(text):
    def read(large_bytes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_reader, "LARGE_BYTES", large_bytes)
            try:
                return [read_json(text, JsonBounds(max_values=5, max_depth=3))]
            except InputRefused:
                return None

    assert read(0) == read(1000)


@given(st.binary(max_size=200) | st.text('[]{}",:\\u0123456789dDeE+-.nulltrfasNI \t\n\x00\ud800', max_size=80))
def test_whatever_bytes_come_they_are_read_or_refused_and_never_anything_else(data):
    with contextlib.suppress(InputRefused):
        read_json(data)


@pytest.mark.parametrize(
    "data",
    [
        "", " ", "[", "]", "{", "}", "[1,]", "[,1]", "[1 2]", "{'a': 1}", '{"a" 1}', '{"a": 1,}', "{1: 2}", "{a: 1}",
        '["\x01"]', '["\\x41"]', '["\\u12"]', '["', '"', "[1]]", "[1] x", "nul", "True", "[+1]", "[01]", "[.5]", "[1.]",
        "[0x1]", "[1e]", "[--1]", "// c\n1", "/* c */ 1", "\u00a01", "[1\u2028]", '{"a": 1 "b": 2}', "undefined",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(data):
    with pytest.raises(InputRefused):
        read_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff", b'["\xe9"]', b'["\xed\xa0\x80"]', b'["\xc0\xaf"]', b'["\xf4\x90\x80\x80"]', "[1]".encode("utf-16"),
        "[1]".encode("utf-32"), "[1]".encode("utf-16-le"), '["a\ud800"]',
    ],
)  # fmt: skip
def test_other_encodings_than_utf_8_are_refused(data):
    with pytest.raises(InputRefused):
        read_json(data)


def test_a_byte_order_mark_is_skipped():
    assert read_json(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "-1" + "0" * 5000, "9" * 309]
)
def test_a_number_that_no_double_holds_reads_as_none(number):
    assert read_json(f'{{"a": {number}, "b": 1}}') == {"a": None, "b": 1}


def test_large_numbers_that_a_double_holds_are_read():
    assert read_json("[1e308, 18446744073709551616]") == [1e308, 2**64]
    assert read_json("1" + "0" * 308) == 10**308
    assert read_json("-1" + "0" * 308) == -(10**308)


def test_of_two_equal_keys_the_last_one_counts():
    assert read_json('{"a": 1, "a": 2}') == {"a": 2}


def test_half_of_a_character_is_replaced_and_a_pair_is_one_character():
    assert read_json('{"\\ud800": ["x\\udc00y", "\\ud83d\\ude00"]}') == {"\ufffd": ["x\ufffdy", "\U0001f600"]}


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', "[[],", '[["[",'])
@pytest.mark.parametrize("count", [100, 100_000])
def test_deep_nesting_is_refused_before_it_is_built(opening, count):
    with pytest.raises(InputRefused, match="nested"):
        read_json(opening * count, JsonBounds(max_values=10_000_000))


def test_brackets_within_texts_are_no_nesting():
    assert read_json(json.dumps(["[" * 1000, '"{' * 100, "\\"])) == ["[" * 1000, '"{' * 100, "\\"]


@pytest.mark.parametrize("piece", ["[],", "{},", "0,", '"",', '"":0,'])
def test_many_values_are_refused_before_they_are_built(piece):
    with pytest.raises(InputRefused, match="more than 2000 values"):
        read_json("[" + piece * 2001, JsonBounds(max_values=2000))


def test_two_hundred_thousand_values_are_the_most_that_anything_from_outside_may_have():
    with pytest.raises(InputRefused, match="more than 200000 values"):
        read_json("[" + "0," * 200_001)


@pytest.mark.parametrize("data", [b'"' * 1000, b"{" + b'"":""' * 500, b'["" ' + b'"" ' * 500])
def test_texts_that_no_comma_separates_are_refused_at_the_third(data):
    with pytest.raises(InputRefused, match="nothing between"):
        read_json(data)


def test_more_bytes_than_allowed_are_refused():
    with pytest.raises(InputRefused, match="bytes"):
        read_json(b'"' + b"a" * 100 + b'"', JsonBounds(max_bytes=100))


@pytest.mark.parametrize(
    "data", [b'"' * 400_001, b'\\"' * 200_000, b'["' + b'\\"' * 200_000, b'"\\' * 200_000, b"\\" * 400_000]
)
def test_texts_without_an_end_take_no_time_that_grows_faster_than_they_do(data):
    with pytest.raises(InputRefused):
        read_json(data, JsonBounds(max_values=10_000_000))


def test_an_object_is_told_from_other_documents():
    assert read_json_object('{"a": [1]}') == {"a": [1]}
    for other in ("[1]", '"a"', "1", "1.5", "true", "null"):
        with pytest.raises(InputRefused, match="instead of an object"):
            read_json_object(other)


async def test_large_documents_are_read_aside_with_the_same_result():
    value = {"a": ["x" * 100] * 10_000}
    assert await read_json_aside(json.dumps(value)) == value
    assert await read_json_aside("[1]") == [1]
    with pytest.raises(InputRefused):
        await read_json_aside("[" * 300_000)


def test_what_is_refused_is_an_error_of_the_tree():
    with pytest.raises(WorkerError):
        read_json("[")


@pytest.mark.parametrize("piece", [b" ", b"9", b"x", "\u6f22".encode()])
def test_a_stretch_that_nothing_divides_is_refused_before_it_is_parsed(piece):
    stretch = piece * (2 * json_reader.STRETCH_BYTES // len(piece) + len(piece))
    document = b"[" + stretch + b"]" if piece in {b" ", b"9"} else b'"' + stretch + b'"'
    with pytest.raises(InputRefused, match="nothing divides"):
        read_json(document)
    owners = JsonBounds(max_bytes=len(document), long_stretches=True)
    assert read_json(document, owners) in ([], [None], stretch.decode())


def test_a_text_of_millions_of_escapes_is_refused():
    escapes = b"\\n" * (1000 * json_reader.MOST_PARTS + 1)
    with pytest.raises(InputRefused, match="thousand escapes"):
        read_json(b'"' + escapes + b'"', JsonBounds(max_bytes=2**23))


@pytest.mark.parametrize("piece", ['\\"', "\\\\", "\\ud83d\\ude00", "\\ud800", '","'])
def test_what_stands_where_one_look_ends_is_read_like_anything_else(monkeypatch, piece):
    for bound in ("STRETCH_BYTES", "QUICK_BYTES", "LARGE_BYTES"):
        monkeypatch.setattr(json_reader, bound, 2048)
    half = json_reader.STRETCH_BYTES // 2
    for offset in range(-8, 9):
        filler = "x" * half + "\\n" + "x" * (half - 2 + offset)
        document = f'["{filler}{piece}{filler}{piece}"]'
        # UTF-8 takes no half of a character.
        expected = json.dumps(json.loads(document), ensure_ascii=False).encode("utf-8", "replace")
        found = json.dumps(read_json(document), ensure_ascii=False)
        assert found.replace("\ufffd", "?").encode() == expected, offset
