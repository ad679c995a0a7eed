"""The stages of a job, and how to do something when a job comes to one."""

from collections.abc import Callable
from typing import Any

from worker.engine import events
from worker.engine.client import EngineClient
from worker.horde.client import HordeClient
from worker.jobs.job import JobEvents, Stage

STAGES = ("popped", "fetching", "queued", "sampling", "frame", "delivering", "submitting")


def at_stage(stage: str, act: Callable[[], None], patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Do something whenever a job of this process comes to a stage."""
    match stage:
        case "queued":
            queue = EngineClient._queue

            async def queue_and_act(*arguments):
                prompt = await queue(*arguments)
                act()
                return prompt

            patch(EngineClient, "_queue", queue_and_act)
        case "sampling" | "frame":
            dispatch = EngineClient._dispatch

            def dispatch_and_act(self, event):
                dispatch(self, event)
                samples = isinstance(event, events.Progress) and 0 < event.value < event.maximum
                if samples if stage == "sampling" else isinstance(event, events.ImageMade):
                    act()

            patch(EngineClient, "_dispatch", dispatch_and_act)
        case "submitting":
            submit = HordeClient.submit

            async def act_and_submit(*arguments, **options):
                act()
                return await submit(*arguments, **options)

            patch(HordeClient, "submit", act_and_submit)
        case _:
            enter, wanted = JobEvents.enter, Stage(stage)

            def enter_and_act(self, job, entered):
                enter(self, job, entered)
                if entered is wanted:
                    act()

            patch(JobEvents, "enter", enter_and_act)
