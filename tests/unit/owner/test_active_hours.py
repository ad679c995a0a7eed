"""The hours an owner gives his worker."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config.active_hours import closed_for_s, read_hours
from worker.config.schema import BridgeData
from worker.owner.active_hours import HoursWatch
from worker.scheduling.owner_pause import OwnerPause

#: A Friday.
DAY = datetime(2026, 11, 27)  # noqa: DTZ001 - the clock of the machine


def at(clock: str, days: int = 0) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return DAY + timedelta(days=days, hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("hours", "now", "closed"),
    [
        (["22:00-07:00"], at("23:00"), 0), (["22:00-07:00"], at("06:59"), 0), (["22:00-07:00"], at("07:00"), 15 * 3600),
        (["mon-fri 18:00-23:30"], at("17:00"), 3600), (["mon-fri 18:00-23:30"], at("12:00", 1), 54 * 3600),
        (["fri 22:00-07:00"], at("06:00", 1), 0), (["fri 22:00-07:00"], at("06:00"), 16 * 3600),
        (["sat-sun 00:00-24:00"], at("23:00"), 3600), (["sun 00:00-24:00"], at("23:59", 2), 0),
        (["sun-mon 09:00-10:00"], at("09:30", 3), 0), (["00:00-00:00"], at("12:00"), 0),
        (["8:00-9:00", "20:00-21:00"], at("10:00"), 10 * 3600), ([], at("10:00"), 0),
        (["Friday 9:00 - 10:00"], at("09:30"), 0),
    ],
)  # fmt: skip
def test_hours_are_open_and_closed_as_written(hours, now, closed):
    assert closed_for_s([read_hours(text) for text in hours], now) == closed


@pytest.mark.parametrize("text", ["", "always", "22-7", "25:00-26:00", "10:60-11:00", "24:00-01:00", "xyz 10:00-11:00"])
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"22:00-07:00|time of a day|00:00"):
        read_hours(text)
    with pytest.raises(ValueError, match="active_hours"):
        BridgeData.model_validate({"active_hours": [text]})


@given(st.integers(0, 6), st.integers(0, 1439), st.integers(0, 1440), st.integers(0, 7 * 1440 - 1))
def test_after_the_time_named_it_is_open(day, begin, end, minute):
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    hours = [read_hours(f"{days[day]} {begin // 60}:{begin % 60:02}-{end // 60}:{end % 60:02}")]
    now = DAY + timedelta(minutes=minute)
    closed = closed_for_s(hours, now)
    assert 0 <= closed <= 7 * 86400
    assert closed_for_s(hours, now + timedelta(seconds=closed)) == 0


class Running:
    def __init__(self, *hours: str) -> None:
        self.live = SimpleNamespace(data=BridgeData.model_validate({"active_hours": list(hours)}))
        self.now = at("12:00")
        pause = OwnerPause(wall=self._wall)
        self.pauses = pause
        self.steering = SimpleNamespace(
            pause_state=pause,
            pause=lambda seconds: pause.begin(self.now.timestamp() + seconds),
            resume=pause.end,
        )
        self.status = self

    def _wall(self) -> float:
        return self.now.timestamp()


def test_the_worker_is_paused_outside_its_hours_and_an_owner_who_resumes_is_obeyed(said):
    running: Any = Running("22:00-07:00")
    watch = HoursWatch(lambda: running.now)
    watch.look(running)
    assert running.pauses.until == at("22:00").timestamp()
    assert any("until Fri 22:00" in line for line in said)
    running.pauses.end()
    watch.look(running)
    assert not running.pauses.is_on
    running.now = at("22:01")
    watch.look(running)
    running.now = at("07:01", 1)
    watch.look(running)
    assert running.pauses.is_on


def test_other_hours_in_the_settings_end_the_pause_and_an_owners_own_pause_stays():
    running: Any = Running("22:00-07:00")
    watch = HoursWatch(lambda: running.now)
    watch.look(running)
    running.live.data = BridgeData()
    watch.look(running)
    assert not running.pauses.is_on
    running = Running("22:00-07:00")
    running.pauses.begin(None)
    watch = HoursWatch(lambda: running.now)
    watch.look(running)
    running.now = at("22:30")
    watch.look(running)
    assert running.pauses.is_on
