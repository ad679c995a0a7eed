from tests.unit.status.rig import Rig
from worker.jobs.job import JobEvent, Stage
from worker.status import shown_jobs
from worker.status.shown_jobs import MOST_PICTURES, MOST_PROMPTS, ShownJobs


async def test_what_is_kept_is_bounded_in_number_and_size(monkeypatch):
    rig, shown = Rig(), ShownJobs(lambda: True)
    monkeypatch.setattr(shown_jobs, "MOST_BYTES", 1000)
    for number in range(MOST_PROMPTS + 10):
        job = rig.job(str(number), prompt="a" * 10_000)
        shown.note(JobEvent(job, Stage.POPPED))
        shown.note_picture(job, b"x" * 100)
    assert shown.prompt("0") is None
    assert len(shown.prompt(str(MOST_PROMPTS)) or "") <= 4000
    assert len(shown._pictures) == 10 < MOST_PICTURES
    shown.note_picture(rig.job("large"), b"x" * 1001)
    assert shown.picture("large") is None


async def test_of_a_job_with_several_pictures_the_first_is_kept():
    rig, shown = Rig(), ShownJobs(lambda: True)
    job = rig.job("a", "b")
    shown.note_picture(job, b"first")
    shown.note_picture(job, b"second")
    assert shown.picture("a") == b"first"
