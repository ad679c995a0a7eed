"""What the page of messages finds in code."""

from pathlib import Path

import pytest

from tools.error_messages import WAIT, ErrorText, tables, texts

ERRORS = '''
class WorkerError(Exception): ...
class LampBroken(WorkerError):
    """The lamp gives no light. More of it."""
'''


def found(folder: Path, source: str) -> set[ErrorText]:
    (folder / "worker" / "cellar").mkdir(parents=True)
    (folder / "worker" / "errors.py").write_text(ERRORS, "utf-8")
    (folder / "worker" / "cellar" / "lamp.py").write_text(source, "utf-8")
    return set(texts(folder))


@pytest.mark.parametrize(
    ("source", "message", "remedy"),
    [
        ('raise LampBroken("It is dark.", remedy="Change it.")', "It is dark.", "Change it."),
        (
            'HOW = "Change it."\ndef f():\n    raise LampBroken("It is " + "dark.", remedy=HOW)',
            "It is dark.",
            "Change it.",
        ),
        ('raise LampBroken(f"{lamp.place_of} is dark after {len(x)} h.")', "<place of> is dark after … h.", ""),
        ("def f(text):\n    return LampBroken(text, remedy='Change it.')", "The lamp gives no light", "Change it."),
        ('def f(x):\n    raise LampBroken("A" if x else "B")', "A / B", ""),
    ],
)
def test_a_text_is_told_as_far_as_the_code_tells_it(tmp_path: Path, source: str, message: str, remedy: str) -> None:
    assert found(tmp_path, source) == {ErrorText("cellar", message, remedy, "LampBroken")}


def test_each_branch_that_sets_a_text_gives_a_row(tmp_path: Path) -> None:
    source = """
def f(x):
    if x:
        text, advice = "Too dark.", "Light it."
    else:
        text, advice = "Too bright.", "Put it out."
    return WaitReason(Kind.LAMP, text, remedy=advice)
"""
    rows = {("Too dark.", "Light it."), ("Too bright.", "Put it out.")}
    assert {(text.message, text.remedy) for text in found(tmp_path, source) if text.error == WAIT} == rows


def test_a_row_of_a_table_is_read_by_the_fields_of_its_class(tmp_path: Path) -> None:
    source = """
class Rule:
    code: str
    raises: type
    means: str
    remedy: str = ""

RULES = (Rule("E1", LampBroken, "The fuse is gone.", "Put in another."),)
"""
    assert found(tmp_path, source) == {ErrorText("cellar", "The fuse is gone.", "Put in another.", "LampBroken")}


def test_a_row_that_names_no_class_has_that_of_its_table_and_one_that_does_its_own(tmp_path: Path) -> None:
    source = """
class Rule:
    code: str
    means: str
    remedy: str = ""
    raises: type = LampBroken

RULES = (Rule("E1", "The fuse is gone.", "Put in another."), Rule("E2", "It is day.", raises=WorkerError))
"""
    rows = {("The fuse is gone.", "Put in another.", "LampBroken"), ("It is day.", "", "WorkerError")}
    assert {(text.message, text.remedy, text.error) for text in found(tmp_path, source)} == rows


def test_what_markdown_would_take_for_its_own_is_escaped() -> None:
    table = tables([ErrorText("cellar", "a | b <c> *d*\nnext", "`run`", "LampBroken")])
    assert r"| a \| b \<c\> \*d\* next | \`run\` | `LampBroken` |" in table
