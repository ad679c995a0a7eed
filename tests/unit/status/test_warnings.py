"""A warning lasts as long as its cause, and is told with what helps."""

from worker.status.snapshot import Machine, ModelView, SlotView, Standing
from worker.status.warnings import LONGEST_DOUBT, SOUND_AGAIN_S, WarningBook, findings
from worker.units import GIB


class Watch:
    """A book of warnings whose clock a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._book = WarningBook(lambda: self.now)

    def look(self, *slots, models=(), machine=None, standing=None, doubts=()):
        others = findings(models, standing or Standing(), machine or Machine(), {}, doubts)
        return self._book.current(slots, others)

    def topics(self, *slots, **more):
        return [warning.topic for warning in self.look(*slots, **more)]


def test_an_engine_that_is_down_is_a_warning_until_it_is_up():
    watch = Watch()
    (warning,) = watch.look(SlotView(1, "GPU 0", "resting", failures=1, reason="It died.", remedy="Look."))
    assert (warning.sentence, warning.remedy) == ("Engine 1 (GPU 0) failed 1 time: It died.", "Look.")
    assert watch.topics(SlotView(1, "GPU 0", "ready", failures=1)) == []
    assert watch.look(SlotView(1, "GPU 0", "stuck"))[0].sentence == "Engine 1 (GPU 0) is stuck."


def test_an_engine_that_failed_often_is_a_warning_until_it_was_sound_for_a_while():
    watch = Watch()
    for failures in range(4):
        watch.now += 60.0
        topics = watch.topics(SlotView(1, "GPU 0", "ready", failures=failures))
        assert topics == (["engine 1"] if failures >= 3 else [])
    watch.now += SOUND_AGAIN_S - 1.0
    assert watch.topics(SlotView(1, "GPU 0", "ready", failures=3)) == ["engine 1"]
    watch.now += 1.0
    assert watch.topics(SlotView(1, "GPU 0", "ready", failures=3)) == []
    assert watch.topics(SlotView(1, "GPU 0", "ready", failures=4)) == ["engine 1"]


def test_little_disk_is_told_before_it_stops_the_jobs():
    watch = Watch()
    (warning,) = watch.look(machine=Machine(disk_free_bytes=2 * GIB, disk_needed_bytes=GIB))
    assert warning.sentence == "Only 2.0 GiB are free on the disk that the engines write to."
    assert warning.remedy == "Make room: with less than 1 GiB no jobs are taken."
    assert watch.topics(machine=Machine(disk_free_bytes=4 * GIB, disk_needed_bytes=GIB)) == []
    assert watch.topics(machine=Machine(disk_needed_bytes=GIB)) == []


def test_each_warning_has_the_moment_at_which_it_came_up_and_the_oldest_is_first():
    watch = Watch()
    failed = ModelView("a", "failed", "no room")
    (first,) = watch.look(models=(failed,))
    watch.now += 50.0
    both = watch.look(models=(failed,), standing=Standing(paused=True))
    assert [(warning.topic, warning.since) for warning in both] == [
        ("models", first.since), ("paused by a moderator", 1050.0),
    ]  # fmt: skip


def test_names_that_no_model_has_are_told_as_long_as_they_are_wanted_and_few_at_once():
    watch = Watch()
    doubts = tuple(f"models_to_load: no model is called 'Model {number}'." for number in range(5))
    (warning,) = watch.look(doubts=doubts[:1])
    assert warning.sentence == "models_to_load: no model is called 'Model 0'."
    assert warning.remedy == "`horde-bridge models list` shows what is known."
    assert watch.look(doubts=doubts)[0].sentence.endswith("'Model 2'. And 2 more.")
    (foreign,) = watch.look(doubts=("x" * 10_000 + "\x1b[2J",))
    assert len(foreign.sentence) <= LONGEST_DOUBT + 1
    assert watch.topics() == []
