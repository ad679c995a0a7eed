"""Prompt texts: the negative part, wildcards, trigger words, embeddings. Every choice is drawn from the job's seed."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from random import Random

NEGATIVE_SEPARATOR = "###"

INNERMOST_CHOICE = re.compile(r"\{([^{}]+)\}")
#: Braces nested deeper than this stay as they are; nobody writes them by hand.
DEEPEST_NESTING = 64

#: How alike a trigger word must be to what the requester wrote, 0..1.
LIKE_ENOUGH = 0.65


def split_prompt(prompt: str) -> tuple[str, str]:
    """The positive and the negative part; whatever follows a second separator is lost."""
    positive, *rest = prompt.split(NEGATIVE_SEPARATOR)
    return positive, rest[0] if rest else ""


def choose_wildcards(prompt: str, seed: int) -> str:
    """`{a|b}` becomes one of its choices, from the innermost braces outwards; `{a}` loses its braces."""
    draw = Random(seed)
    for _ in range(DEEPEST_NESTING):
        prompt, count = INNERMOST_CHOICE.subn(lambda match: draw.choice(match[1].split("|")), prompt)
        if not count:
            break
    return prompt


def choose_trigger(wish: str | None, words: Sequence[str], seed: int) -> str | None:
    """The text a LoRA wants in the prompt: `any` or `all` of its trigger words, or the one most like the wish."""
    match (wish or "").strip().lower():
        case _ if not words:
            return None
        case "":
            return None
        case "any":
            return Random(seed).choice(words)
        case "all":
            return ", ".join(words)
        case wanted:
            return _most_like(wanted, words)


def _most_like(wanted: str, words: Sequence[str]) -> str | None:
    for word in words:
        if word.lower() == wanted:
            return word
    for word in words:
        if wanted in word.lower():
            return word
    likeness, word = max((SequenceMatcher(None, wanted, word.lower()).ratio(), word) for word in words)
    return word if likeness > LIKE_ENOUGH else None


def prepend_trigger(prompt: str, trigger: str | None) -> str:
    return f"{trigger}, {prompt}" if trigger else prompt


def prepend_embedding(prompt: str, name: str, strength: float) -> str:
    return f"{_embedding(name, strength)},{prompt}"


def append_embedding(prompt: str, name: str, strength: float) -> str:
    return f"{prompt},{_embedding(name, strength)}" if prompt else _embedding(name, strength)


def _embedding(name: str, strength: float) -> str:
    return f"(embedding:{name}:{strength})"
