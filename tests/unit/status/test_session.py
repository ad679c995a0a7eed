"""What a session has done is told in jobs, as they are popped, and in images, as the Horde pays and counts faults."""

from tests.unit.status.rig import Rig
from worker.horde.messages import PopResponse
from worker.jobs.job import Job, Stage
from worker.status import session
from worker.status.session import SessionStats, tally_of
from worker.status.snapshot import StageTimes, Tally


def ended(stats, stage, *, images, delivered, faulted=0, kudos=0.0):
    job = Job(PopResponse(ids=[str(number) for number in range(images)]), popped_at=0.0)
    job.delivered, job.faulted, job.kudos = delivered, faulted, kudos
    stats.ended(job, tally_of(job, stage), StageTimes())


def test_a_batch_is_one_job_and_as_many_images_as_arrived():
    stats = SessionStats()
    ended(stats, Stage.DONE, images=4, delivered=4, kudos=40.0)
    ended(stats, Stage.DONE, images=1, delivered=1, kudos=10.0)
    assert stats.total == Tally(jobs=2, images=5, kudos=50.0)


def test_of_a_batch_that_came_in_part_the_images_that_came_count_and_are_paid():
    stats = SessionStats()
    ended(stats, Stage.FAULTED, images=4, delivered=3, faulted=1, kudos=30.0)
    assert (stats.total.jobs, stats.total.faulted) == (0, 1)
    assert (stats.total.images, stats.faulted_images, stats.total.kudos) == (3, 1, 30.0)


def test_an_image_that_the_horde_wants_no_more_is_neither():
    stats = SessionStats()
    ended(stats, Stage.DONE, images=2, delivered=1)
    assert (stats.total.images, stats.faulted_images) == (1, 0)


async def test_beyond_a_number_of_models_the_others_are_one_and_no_count_ever_falls(monkeypatch):
    monkeypatch.setattr(session, "MOST_MODELS", 3)
    rig = Rig()
    for number in (0, 1, 2, 3, 4, 0, 4):
        rig.ends(rig.job(f"{number}", model=f"Model {number}"))
    models = rig.board.stats.models
    assert {name: tally.jobs for name, tally in models.items()} == {
        "Model 0": 2, "Model 1": 1, "Model 2": 1, "other": 3
    }  # fmt: skip
