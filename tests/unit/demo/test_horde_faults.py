"""The plan of what goes wrong: by script, on demand, by chance, and the same again with the same seed."""

from worker.demo.horde.faults import Chance, Fault, FaultKind, FaultPlan, Route, Scripted

RESET = Fault(FaultKind.RESET)
HANG = Fault(FaultKind.HANG)


def test_a_scripted_fault_strikes_the_nth_request_to_its_route_only() -> None:
    plan = FaultPlan([Scripted(Route.POP, 2, RESET)])
    assert [plan.strike(Route.POP) for _ in range(3)] == [None, RESET, None]
    assert plan.strike(Route.SUBMIT) is None


def test_an_injected_fault_strikes_the_next_requests() -> None:
    plan = FaultPlan()
    plan.inject(Route.SUBMIT, HANG, times=2)
    assert [plan.strike(Route.SUBMIT) for _ in range(3)] == [HANG, HANG, None]


def test_faults_by_chance_come_as_often_as_asked_and_alike_for_a_seed() -> None:
    def struck(seed: int) -> list[Fault | None]:
        plan = FaultPlan(chances=[Chance(Route.POP, 0.2, RESET), Chance(Route.POP, 0.1, HANG)], seed=seed)
        return [plan.strike(Route.POP) for _ in range(1000)]

    first = struck(1)
    assert first == struck(1) != struck(2)
    assert 150 < first.count(RESET) < 250
    assert 50 < first.count(HANG) < 120


def test_requests_to_one_route_do_not_shift_the_script_of_another() -> None:
    plan = FaultPlan([Scripted(Route.UPLOAD, 1, RESET)])
    plan.strike(Route.POP)
    assert plan.strike(Route.UPLOAD) is RESET


def test_what_struck_is_counted_and_a_stopped_plan_strikes_no_more() -> None:
    plan = FaultPlan([Scripted(Route.POP, 1, RESET), Scripted(Route.POP, 2, RESET)])
    plan.strike(Route.POP)
    plan.inject(Route.POP, HANG)
    plan.stop()
    assert plan.strike(Route.POP) is None
    assert plan.struck == {"pop/reset": 1}
    assert plan.seen(Route.POP) == 2
