"""Foreign words on the owner's terminal, in his logs and on his page."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.untrusted.text import in_brief, quote, redact_links, visible, visible_lines


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("plain words", "plain words"),
        ("Grüße, 世界 🎨", "Grüße, 世界 🎨"),
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b]52;c;cm0gLXJm\x1b\\", "\\x1b]52;c;cm0gLXJm\\x1b\\"),
        ("\x1b]8;;https://x.example\x1b\\link", "\\x1b]8;;https://x.example\\x1b\\link"),
        ("\x9b31m\x9d0;t\x9c", "\\x9b31m\\x9d0;t\\x9c"),
        ("\x1bP+q544e\x1b\\", "\\x1bP+q544e\\x1b\\"),
        ("a\nINFO forged\r\n", "a\\nINFO forged\\r\\n"),
        ("a\x0bb\x0cc\x85d\u2028e\u2029f", "a\\x0bb\\x0cc\\x85d\\u2028e\\u2029f"),
        ("a\x1cb\x1db\x1eb\x1f", "a\\x1cb\\x1db\\x1eb\\x1f"),
        ("over\b\b\b\bseen\x7f\x00", "over\\x08\\x08\\x08\\x08seen\\x7f\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066a\u2069\u200f\u061c", "\\u2066a\\u2069\\u200f\\u061c"),
        ("a\u200bb\u200c\u200d\u2060\ufeff\u00ad", "a\\u200bb\\u200c\\u200d\\u2060\\ufeff\\xad"),
        ("\U000e0041\U000e007f", "\\U000e0041\\U000e007f"),
        ("\u3164\u115f\u2800\uffa0\u034f\ufe0f", "\\u3164\\u115f\\u2800\\uffa0\\u034f\\ufe0f"),
        ("a\u00a0b\u3000c\u2003d", "a b c d"),
        ("half \ud800", "half \\ud800"),
        ("\ue000\uffff", "\\ue000\\uffff"),
        ("e\u0301 Z" + "\u0335" * 40, "e\u0301 Z" + "\u0335" * 3 + "\\u0335" * 37),
    ],
)  # fmt: skip
def test_what_can_not_be_seen_is_written_out(sent, shown):
    assert visible(sent) == shown


@given(st.text(max_size=60))
def test_nothing_is_left_that_moves_hides_or_turns_what_is_shown(text):
    shown = visible(text)
    assert shown.isprintable()
    assert not {unicodedata.bidirectional(c) for c in shown} & {
        "RLO",
        "LRO",
        "RLE",
        "LRE",
        "PDF",
        "RLI",
        "LRI",
        "FSI",
        "PDI",
    }
    shown.encode()
    assert visible(shown) == shown


def test_a_long_text_is_cut_and_says_so():
    assert visible("a" * 10, longest=3) == "aaa…"
    assert visible("\n" * 10, longest=3) == "\\n\\…"
    assert visible("abc", longest=3) == "abc"


def test_no_line_of_a_message_looks_like_the_beginning_of_one():
    assert (
        visible_lines("first\r\n2026-01-01 INFO forged\n\x1b[1m") == "first\n    2026-01-01 INFO forged\n    \\x1b[1m"
    )
    assert visible_lines("one\rtwo") == "one\\rtwo"


def test_a_quotation_is_one_line_without_secrets():
    assert quote("see  https://u:p@host/a?sig=1\n now") == "see https://host/a?… now"
    assert quote("x" * 1000) == "x" * 400 + "…"


def test_links_lose_what_is_secret():
    assert (
        redact_links("GET http://a.example/b?c=d#e 'https://x:y@z.example/'")
        == "GET http://a.example/b?… 'https://z.example/'"
    )


def test_of_many_lines_the_first_and_the_last_are_said_in_brief():
    log = "The engine ended with code 1.\nPrompt received\n\nPrompt queued\nRuntimeError: out of \x1b[31mmemory\n"
    assert in_brief(log) == "The engine ended with code 1. … RuntimeError: out of \\x1b[31mmemory"
    assert in_brief("It died.\nOf thirst.") == "It died. Of thirst."
    assert in_brief("") == ""
    assert len(in_brief("a" * 10_000 + "\n" + "b\n" * 10_000)) < 420
