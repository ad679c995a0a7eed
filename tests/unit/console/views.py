"""Views of jobs, slots and a worker, as tests of the terminal show them."""

from typing import Any

from worker.status.snapshot import JobRecord, JobView, Outcome, Phase, Session, Snapshot, Tally, Versions

HOUR = 3600.0


def job_view(**more: Any) -> JobView:
    values: dict[str, Any] = {
        "id": "9755d4c1-aaaa", "model": "Deliberate", "kind": "txt2img", "features": (), "details": (),
        "width": 512, "height": 768, "steps": 30, "images": 1, "sampler": "k_euler", "stage": "popped",
        "popped_at": 1000.0, "deadline": 1145.0,
    }  # fmt: skip
    return JobView(**{**values, **more})


def job_record(**more: Any) -> JobRecord:
    values: dict[str, Any] = {
        "id": "9755d4c1-aaaa", "model": "Deliberate", "kind": "txt2img", "features": (), "width": 512, "height": 768,
        "steps": 30, "images": 1, "delivered": 1, "kudos": 12.34, "outcome": Outcome.DONE, "popped_at": 1000.0,
        "ended_at": 1008.0,
    }  # fmt: skip
    return JobRecord(**{**values, **more})


def snapshot(**more: Any) -> Snapshot:
    session = Session(
        Tally(jobs=12, faulted=1, images=20, kudos=300.0), faulted_images=2, uptime_s=HOUR, kudos_per_hour=300.0
    )
    values: dict[str, Any] = {
        "at": 5000.0, "name": "my worker", "phase": Phase.SERVING, "started_at": 1400.0,
        "versions": Versions("1", "agent", "3.12"), "session": session,
    }  # fmt: skip
    return Snapshot(**{**values, **more})
