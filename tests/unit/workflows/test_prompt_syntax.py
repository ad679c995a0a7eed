"""Prompts that break ComfyUI's parser are changed as little as makes them harmless, all others not at all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflows.prompt_syntax import (
    MAX_NESTING,
    MAX_PARSING,
    MAX_PROMPT_CHARACTERS,
    MAX_WEIGHT,
    harmless,
    is_harmless,
)

ORDINARY = (
    "",
    "a red fox in the snow",
    "masterpiece, (best quality:1.4), ((detailed)), [lowres], a fox (sitting:1.2) \\(animal\\)",
    "(a (b (c:0.5):1.3):-2)",
    "(embedding:7808:0.8), embedding:easynegative, a\nembedding:bad-hands-5",
    "<lora:add_detail:0.8> a fox AND a hare:0.4 BREAK (snow:1.10)",
    "unbalanced ((( (a:1.2) b))) :-) ;) ) (",
    "at 12:30, ratio 16:9, (C:\\temp), (a:b), (:1.2), (1:2)",
    "\u05e9\u05dc\u05d5\u05dd (\u05e2\u05d5\u05dc\u05dd:1.1) \u202eabc",
    "\U0001f98a\u200d\U0001f525 (\uff11\uff12:\uff11)",
    "an embedding: of something",
    "(fox:-0) (hare:1e-300)",
    "(" * 20 + "fox" + ")" * 20,
)


@pytest.mark.parametrize("prompt", ORDINARY)
def test_an_ordinary_prompt_stays_as_it_is(prompt: str) -> None:
    assert harmless(prompt) == prompt


@pytest.mark.parametrize(
    ("prompt", "mended"),
    [
        ("a fox, embedding:", "a fox,"),
        ("a fox (embedding:)", "a fox "),
        ("embedding:", ""),
        ("embedding: \t\n", " \t\n"),
        ("a embedding: embedding:x", "a embedding:x"),
        # An engine of 2026 looks for names after any white space.
        ("a\tembedding:\u2003embedding:x", "a\u2003embedding:x"),
        ("a fox,\x1cembedding: ", "a fox, "),
        ("a embedding:  embedding: embedding:", "a "),
        ("x (a embedding::1.2) y", "x (a:1.2) y"),
        ("x (embedding::1.2) y", "x  y"),
        ("embedding:(a cat:1.3)", "(a cat:1.3)"),
        ("a\nembedding:((x))", "a((x))"),
        ("(fox:nan)", "(fox:1)"),
        ("(fox:inf)", "(fox:10)"),
        ("(fox:-Infinity)", "(fox:-10)"),
        ("(fox:1e400)", "(fox:10)"),
        ("(fox:1e30) (hare:1.2)", "(fox:10) (hare:1.2)"),
        ("(fox:1_000)", "(fox:10)"),
        ("(a (b:NaN):2)", "(a (b:1):2)"),
        ("(fox: nan )", "(fox:1)"),
        ("((fox:99)", "((fox:10)"),
    ],
)
def test_what_breaks_the_parser_is_mended_and_the_rest_stays(prompt: str, mended: str) -> None:
    assert harmless(prompt) == mended


def test_parentheses_without_a_weight_stop_adding_up() -> None:
    mended = harmless("(" * 500 + "fox" + ")" * 500)
    assert mended.count("(") == mended.count(")") == math.floor(math.log(MAX_WEIGHT, 1.1))


def test_nesting_with_weights_is_bounded() -> None:
    mended = harmless("(" * 980 + "fox" + ":1.0)" * 980)
    assert mended.count("(") == MAX_NESTING
    assert "fox" in mended


@pytest.mark.parametrize("prompt", ["(" * 4000 + "x" + ":1.0)" * 4000, ("(" * 60 + "x" + ")" * 60) * 150])
def test_a_prompt_that_takes_long_to_parse_loses_its_parentheses(prompt: str) -> None:
    mended = harmless(prompt)
    assert mended.count("(") * MAX_NESTING <= MAX_PARSING
    assert "x" in mended or "x" not in prompt


@pytest.mark.parametrize("prompt", ["(" * 100_000, ")" * 100_000, "embedding: " * 10_000, "(a:nan)" * 15_000])
def test_a_huge_prompt_is_cut_and_harmless(prompt: str) -> None:
    mended = harmless(prompt)
    assert len(mended) <= MAX_PROMPT_CHARACTERS
    assert is_harmless(mended)


SYNTAX = st.sampled_from(
    ["(", ")", "((", "))", "\\(", "\\)", "\\", ":", ":1.2", ":nan", ":inf", ":-1e400", ":99",
     "embedding:", " embedding:", "\nembedding:", " ", "\n", "\t", "\x00\x01", "\u2003", "fox", ",", "\U0001f98a"]
)  # fmt: skip
PROMPTS = st.lists(SYNTAX, max_size=40).map("".join) | st.text(max_size=80)


@given(PROMPTS)
def test_every_prompt_comes_out_harmless_and_then_stays(prompt: str) -> None:
    mended = harmless(prompt)
    assert is_harmless(mended)
    assert harmless(mended) == mended
    assert mended == prompt or not is_harmless(prompt)
