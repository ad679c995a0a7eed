"""The stages of a job, and how to do something when a job comes to one."""

from collections.abc import Callable
from typing import Any

from worker.engine import client, events
from worker.engine.connection import EngineConnection
from worker.horde.client import HordeClient
from worker.jobs.job import JobEvents, Stage

STAGES = ("popped", "fetching", "queued", "sampling", "frame", "delivering", "submitting")


def at_stage(stage: str, act: Callable[[], None], patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Do something whenever a job of this process comes to a stage."""
    match stage:
        case "queued":
            request = EngineConnection.request

            async def request_and_act(self, method, path, **options):
                answer = await request(self, method, path, **options)
                if (method, path) == ("POST", "/prompt"):
                    act()
                return answer

            patch(EngineConnection, "request", request_and_act)
        case "sampling" | "frame":
            connect = client.EngineConnection

            def connect_and_act(*arguments, on_event, **options):
                def hear(event):
                    on_event(event)
                    samples = isinstance(event, events.Progress) and 0 < event.value < event.maximum
                    if samples if stage == "sampling" else isinstance(event, events.ImageMade):
                        act()

                return connect(*arguments, on_event=hear, **options)

            patch(client, "EngineConnection", connect_and_act)
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
