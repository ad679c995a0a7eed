"""What a trial says of an engine, and what its service says."""

import json
from dataclasses import replace

import pytest

from worker.engine.versions.probation import ServiceRecord
from worker.engine.versions.trial_report import Rendered, TrialReport, audit_difference, compare

SIZE = (1, 2, 3)
REPORT = TrialReport("new", "0.33.0", "installed", "0.3.75", at=1.0)


def rendered(*pixels: int, seconds: float = 1.0) -> Rendered:
    return Rendered(SIZE, bytes(pixels), seconds)


BLACK = rendered(0, 0, 0, 0, 0, 0)
FAILED = Rendered(error="ComfyUI refuses the graph")


def report(*pictures: tuple[Rendered, Rendered]) -> TrialReport:
    compared = [compare(f"job {number}", "a model", *pair) for number, pair in enumerate(pictures, 1)]
    return replace(REPORT, pictures=compared)


def test_an_equal_engine_may_take_the_place_of_the_other() -> None:
    found = report((BLACK, BLACK), (BLACK, BLACK))
    assert found.takes
    assert found.summary == "2 of 2 pictures equal, 1.00 times as long."


def test_rounding_is_told_and_does_not_count() -> None:
    found = report((BLACK, rendered(0, 1, 0, 0, 0, 0)), (BLACK, BLACK))
    assert found.takes
    assert "1 of 2 pictures equal, 1 by 1 of 255 off" in found.summary


def test_a_picture_that_differs_is_named_with_its_largest_difference() -> None:
    found = report((BLACK, rendered(0, 0, 0, 9, 0, 3)), (BLACK, BLACK))
    assert found.complaints == ["1 picture differs: job 1 by up to 9 of 255."]
    assert found.pictures[0].mean_difference == 2.0


def test_pictures_of_other_sizes_differ_wholly() -> None:
    other = Rendered((2, 2, 3), bytes(12))
    assert report((BLACK, other)).pictures[0].largest_difference == 255


def test_a_job_that_the_new_engine_alone_fails_speaks_against_it_and_the_other_way_round_does_not() -> None:
    lost, gained = report((BLACK, FAILED)), report((FAILED, BLACK), (BLACK, BLACK))
    assert lost.complaints == ["1 job failed: job 1."]
    assert gained.takes


def test_slow_is_the_median_over_all_jobs() -> None:
    slow, quick = rendered(*bytes(6), seconds=1.6), rendered(*bytes(6), seconds=1.0)
    assert report((BLACK, slow), (BLACK, slow), (BLACK, quick)).complaints == ["Slow: jobs take 1.60 times as long."]
    assert report((BLACK, slow), (BLACK, quick), (BLACK, quick)).takes
    assert report((replace(BLACK, seconds=0.0), slow)).times_as_long is None


def test_templates_are_lost_gained_and_kept() -> None:
    before = {"a": [], "b": ["x"], "c": ["x"], "d": []}
    now = {"a": [], "b": [], "c": ["y"], "d": ["no node class D"]}
    assert audit_difference(before, now) == ({"d": ["no node class D"]}, ["b"], 1)
    lost = replace(REPORT, templates_lost={"d": ["no node class D"]})
    assert lost.complaints == ["1 template lost: d."]


def test_an_engine_that_does_not_run_is_not_taken_whatever_else() -> None:
    found = replace(report((BLACK, BLACK)), error="It does not run: no torch")
    assert not found.takes
    assert found.summary == "It does not run: no torch"


def test_an_engine_of_whose_pictures_nothing_is_known_is_not_taken() -> None:
    for found in (report(), report((FAILED, BLACK)), replace(report(), untried=["a"])):
        assert found.complaints == ["No job was done by both engines, so nothing is known of its pictures."]
    assert report((BLACK, FAILED)).complaints == ["1 job failed: job 1."]


def test_a_report_is_json() -> None:
    told = json.loads(json.dumps(report((BLACK, rendered(0, 0, 0, 9, 0, 3)), (BLACK, FAILED)).as_json()))
    assert told["takes"] is False
    assert told["times_as_long"] == 1.0
    assert [picture["largest_difference"] for picture in told["pictures"]] == [9, None]


def record(**counts: int) -> ServiceRecord:
    return ServiceRecord(**counts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counts", "complains"),
    [
        ({}, ""),
        ({"losses": 2}, ""),
        ({"losses": 3}, "lost 3 times"),
        ({"not_finite": 2}, ""),
        ({"not_finite": 3}, "3 jobs gave NaN"),
        ({"not_finite": 3, "done": 9}, "3 jobs gave NaN"),
        ({"not_finite": 3, "done": 10}, ""),
    ],
)
def test_few_failures_are_accidents_and_many_are_the_engines(counts: dict[str, int], complains: str) -> None:
    said = record(**counts).complaint({})
    assert (complains in said) if complains else not said


def test_why_an_engine_does_not_start_is_part_of_a_sentence() -> None:
    assert (
        ServiceRecord(never_starts="It ended with code 1.").complaint({}) == "it does not start: It ended with code 1"
    )


def measured(seconds: float, *, jobs: int, kinds: int = 2) -> ServiceRecord:
    found = ServiceRecord()
    for kind in range(kinds):
        for number in range(jobs + 1):
            found.note_speed(f"kind {kind}", 100.0 if number == 0 else seconds)
    return found


def test_much_slower_is_told_by_kinds_that_both_engines_did() -> None:
    before = measured(1.0, jobs=5).speeds()
    assert before == {"kind 0": 1.0, "kind 1": 1.0}
    assert "1.6 times as long" in measured(1.6, jobs=5).complaint(before)
    assert not measured(1.4, jobs=5).complaint(before)
    assert not measured(9.0, jobs=4).complaint(before)
    assert not measured(9.0, jobs=9).complaint({"another kind": 1.0})


def test_the_first_job_of_a_kind_warms_up_and_two_say_little() -> None:
    assert measured(1.0, jobs=2).speeds() == {}


def test_sound_is_what_served_both_long_and_often() -> None:
    assert record(done=50).is_proven(3600)
    assert not record(done=49).is_proven(9e9)
    assert not record(done=999).is_proven(3599)
