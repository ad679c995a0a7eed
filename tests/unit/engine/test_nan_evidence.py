"""Whose the NaN is: rows of failures tell."""

import pytest

from worker.engine.nan_evidence import JOBS_IN_A_ROW, WINDOW_S, NanEvidence


def failures(evidence: NanEvidence, *models: str, engine: int = 1, now: float = 0.0) -> set[str]:
    """What speaks against the engine after the last of these failures."""
    found: set[str] = set()
    for model in models:
        found = set(evidence.failed(engine, model, now))
    return found


@pytest.mark.parametrize("models", ["aba", "abc", "aab", "abab"])
def test_several_models_in_a_row_on_one_engine_speak_against_it(models: str) -> None:
    assert failures(NanEvidence(), *models) == set(models)


@pytest.mark.parametrize("models", ["a", "ab", "aaaaaaaa"])
def test_few_failures_or_those_of_one_model_say_nothing_of_the_engine(models: str) -> None:
    assert not failures(NanEvidence(), *models)


def test_a_model_that_another_engine_renders_speaks_against_the_engine_alone() -> None:
    evidence = NanEvidence()
    evidence.rendered(2, "a", 0.0)
    assert failures(evidence, *"a" * JOBS_IN_A_ROW) == {"a"}


def test_models_that_fail_on_another_engine_too_are_to_blame_themselves() -> None:
    evidence = NanEvidence()
    failures(evidence, "a", "b", engine=2)
    assert not failures(evidence, *"ababab")
    assert failures(evidence, "c", "d", "c") == {"c", "d"}


def test_a_good_picture_clears_the_engine() -> None:
    evidence = NanEvidence()
    failures(evidence, "a", "b")
    evidence.rendered(1, "c", 0.0)
    assert not failures(evidence, "a", "b")


def test_what_is_an_hour_old_says_nothing_any_more() -> None:
    evidence = NanEvidence()
    failures(evidence, "a", "b")
    assert not failures(evidence, "a", "b", now=WINDOW_S)
    evidence = NanEvidence()
    evidence.rendered(2, "a", 0.0)
    assert not failures(evidence, "a", "a", "a", now=WINDOW_S)


def test_an_engine_that_was_set_aside_needs_only_one_more_to_be_so_again() -> None:
    evidence = NanEvidence()
    assert failures(evidence, "a", "b", "a")
    assert failures(evidence, "a", now=1000.0)
