"""A pause lasts as long as its owner said, whatever becomes of the clock on the wall."""

from worker.scheduling.owner_pause import OwnerPause


class Walls:
    """A clock that may be set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_pause_is_over_in_time_though_the_clock_is_set_back():
    wall = Walls()
    pause = OwnerPause(wall)
    pause.begin(wall.now + 600)
    assert pause.wait(100.0).until == 700.0
    wall.now -= 86_400
    assert pause.wait(200.0).until == 700.0
    assert pause.wait(700.0) is None
    assert not pause.is_on


def test_a_pause_is_over_after_a_sleep_that_the_other_clock_does_not_count():
    wall = Walls()
    pause = OwnerPause(wall)
    pause.begin(wall.now + 600)
    assert pause.wait(100.0)
    wall.now += 700
    assert pause.wait(101.0) is None


def test_a_second_pause_is_as_long_as_it_says():
    wall = Walls()
    pause = OwnerPause(wall)
    pause.begin(wall.now + 60)
    assert pause.wait(100.0).until == 160.0
    pause.begin(wall.now + 600)
    assert pause.wait(100.0).until == 700.0
    pause.begin(None)
    assert pause.wait(10_000.0).until is None
