"""Prompt texts: the negative part, wildcards, trigger words, embeddings. Choices are drawn from the job's seed."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from random import Random

NEGATIVE_SEPARATOR = "###"

INNERMOST_CHOICE = re.compile(r"\{([^{}]+)\}")
#: Braces nested deeper than this stay as they are.
MAX_WILDCARD_NESTING = 64

#: Least similarity of a trigger word to what the requester wrote, 0..1.
MIN_SIMILARITY = 0.65
#: CivitAI takes any number of trigger words of any length. More words than this are left out, longer ones cut, and
#: only their beginnings are compared: the comparison's time is their lengths multiplied.
MAX_TRIGGERS, MAX_TRIGGER_CHARACTERS, MAX_COMPARED_CHARACTERS = 100, 1000, 100


def split_prompt(prompt: str) -> tuple[str, str]:
    """The positive and the negative part; what follows a second separator is left out."""
    positive, *rest = prompt.split(NEGATIVE_SEPARATOR)
    return positive, rest[0] if rest else ""


def choose_wildcards(prompt: str, seed: int) -> str:
    """`{a|b}` becomes one of its choices, from the innermost braces outwards; `{a}` loses its braces."""
    if "{" not in prompt:
        return prompt
    draw = Random(seed)
    for _ in range(MAX_WILDCARD_NESTING):
        prompt, count = INNERMOST_CHOICE.subn(lambda match: draw.choice(match[1].split("|")), prompt)
        if not count:
            break
    return prompt


def choose_trigger(wish: str | None, words: Sequence[str], seed: int) -> str | None:
    """The trigger words of a LoRA to write into the prompt: `any` or `all`, or the one most similar to the wish."""
    words = [word[:MAX_TRIGGER_CHARACTERS] for word in words[:MAX_TRIGGERS]]
    match (wish or "").strip().lower()[:MAX_COMPARED_CHARACTERS]:
        case _ if not words:
            return None
        case "":
            return None
        case "any":
            return Random(seed).choice(words)
        case "all":
            return ", ".join(words)[:MAX_TRIGGER_CHARACTERS]
        case wanted:
            return _most_similar(wanted, words)


def _most_similar(wanted: str, words: Sequence[str]) -> str | None:
    for word in words:
        if word.lower() == wanted:
            return word
    for word in words:
        if wanted in word.lower():
            return word
    similarity, word = max((_similarity(wanted, word.lower()[:MAX_COMPARED_CHARACTERS]), word) for word in words)
    return word if similarity > MIN_SIMILARITY else None


def _similarity(wanted: str, word: str) -> float:
    """0..1; 0 for what a cheap upper bound rules out."""
    matcher = SequenceMatcher(None, wanted, word)
    return matcher.ratio() if matcher.real_quick_ratio() > MIN_SIMILARITY < matcher.quick_ratio() else 0.0


def prepend_trigger(prompt: str, trigger: str | None) -> str:
    return f"{trigger}, {prompt}" if trigger else prompt


def prepend_embedding(prompt: str, name: str, strength: float) -> str:
    return f"{_embedding(name, strength)},{prompt}"


def append_embedding(prompt: str, name: str, strength: float) -> str:
    return f"{prompt},{_embedding(name, strength)}" if prompt else _embedding(name, strength)


def _embedding(name: str, strength: float) -> str:
    return f"(embedding:{name}:{strength})"
