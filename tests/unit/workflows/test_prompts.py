from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflows.prompts import (
    MAX_TRIGGER_CHARACTERS,
    MAX_TRIGGERS,
    MAX_WILDCARD_NESTING,
    append_embedding,
    choose_trigger,
    choose_wildcards,
    prepend_embedding,
    prepend_trigger,
    split_prompt,
)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a fox", ("a fox", "")),
        ("a fox ### blurry", ("a fox ", " blurry")),
        ("a fox###blurry###lost", ("a fox", "blurry")),
        ("###blurry", ("", "blurry")),
        ("", ("", "")),
    ],
)
def test_the_negative_prompt_comes_after_the_separator(prompt: str, parts: tuple[str, str]) -> None:
    assert split_prompt(prompt) == parts


def test_wildcards_are_drawn_in_reading_order_from_the_seed() -> None:
    draw = Random(7)
    expected = f"{draw.choice(['a', 'b', 'c'])} {draw.choice(['x', 'y'])}"
    assert choose_wildcards("{a|b|c} {x|y}", 7) == expected


def test_nested_wildcards_are_drawn_from_the_inside() -> None:
    draw = Random(3)
    inner = draw.choice(["b", "c"])
    assert choose_wildcards("{a|{b|c}}", 3) == draw.choice(["a", inner])


def test_other_seeds_draw_other_choices() -> None:
    assert {choose_wildcards("{a|b|c}", seed) for seed in range(20)} == {"a", "b", "c"}


def test_single_words_lose_their_braces_and_empty_braces_stay() -> None:
    assert choose_wildcards("a {red} fox {} }{", 1) == "a red fox {} }{"


def test_nesting_deeper_than_anyone_writes_ends() -> None:
    prompt = "{" * 5000 + "x" + "}" * 5000
    assert choose_wildcards(prompt, 1).count("{") == 5000 - MAX_WILDCARD_NESTING


@given(st.text(alphabet="ab|{} ", max_size=200), st.integers(0, 2**64 - 1))
def test_wildcards_of_one_seed_are_always_the_same(prompt: str, seed: int) -> None:
    assert choose_wildcards(prompt, seed) == choose_wildcards(prompt, seed)


WORDS = ("Elf style", "dark elf", "forest")


@pytest.mark.parametrize(
    ("wish", "trigger"),
    [
        ("all", "Elf style, dark elf, forest"),
        ("FOREST", "forest"),
        ("dark", "dark elf"),
        ("forrest", "forest"),
        ("quite something else", None),
        ("", None),
        (None, None),
    ],
)
def test_a_trigger_is_found_by_what_the_requester_wrote(wish: str | None, trigger: str | None) -> None:
    assert choose_trigger(wish, WORDS, 1) == trigger


def test_any_trigger_is_drawn_from_the_seed() -> None:
    assert choose_trigger("any", WORDS, 5) == Random(5).choice(WORDS)
    assert {choose_trigger("any", WORDS, seed) for seed in range(30)} == set(WORDS)


def test_a_lora_without_trigger_words_has_no_trigger() -> None:
    assert choose_trigger("any", (), 1) is None


def test_trigger_words_of_any_number_and_length_are_cut_before_they_are_compared() -> None:
    words = ["x" * 5_000_000, *(f"{number} word" * 500 for number in range(2000))]
    assert choose_trigger("y" * 2000, words, 1) is None
    for wish in ("all", "any", "x"):
        assert 0 < len(choose_trigger(wish, words, 1) or "") <= MAX_TRIGGER_CHARACTERS


def test_triggers_stand_before_the_prompt() -> None:
    assert prepend_trigger("a fox", "elf") == "elf, a fox"
    assert prepend_trigger("a fox", None) == "a fox"


def test_embeddings_stand_before_the_prompt_and_after_the_negative_prompt() -> None:
    assert prepend_embedding("a fox", "7808", 0.8) == "(embedding:7808:0.8),a fox"
    assert append_embedding("blurry", "7808", 1.0) == "blurry,(embedding:7808:1.0)"
    assert append_embedding("", "7808", 1.0) == "(embedding:7808:1.0)"


def test_of_endless_trigger_words_only_the_first_are_looked_at() -> None:
    words = [f"word {number}" for number in range(MAX_TRIGGERS)]
    assert choose_trigger("the last one", [*words, "the last one"], 0) is None
