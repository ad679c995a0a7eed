"""The words of others, as they may stand in the worker's log and on the owner's terminal."""

from worker.horde.links import redact

#: characters of them that are shown as a rule
LONGEST_QUOTE = 400


def quote(text: str, *, longest: int = LONGEST_QUOTE) -> str:
    """Foreign text fit for one line of a log: nothing but what can be shown, and no secrets of links."""
    line = redact(" ".join(text.split()))
    printable = "".join(letter for letter in line if letter.isprintable())
    return printable if len(printable) <= longest else f"{printable[:longest]}…"
