"""The steps an owner takes on the page: pause, resume, finish, maintenance."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.dashboard.site import Notice, Site
from worker.dashboard.words import at
from worker.errors import WorkerError
from worker.status.board import StatusBoard
from worker.untrusted.form import read_form

#: What a form may ask for: minutes, as text → seconds; "" is without an end.
PAUSES: Mapping[str, float | None] = {"": None, "30": 1800, "60": 3600, "120": 7200, "480": 28_800, "1440": 86_400}

Form = Mapping[str, list[str]]
#: A sentence on what came of it.
Step = Callable[[StatusBoard, Form], Awaitable[str]]


def routes(site: Site) -> list[Route]:
    """A path for each step, which is taken and then told on the overview."""

    def taking(step: Step) -> Callable[[Request], Awaitable[Response]]:
        async def take(request: Request) -> Response:
            try:
                notice = Notice(await step(site.status, read_form(await request.body())))
            except WorkerError as error:
                notice = Notice(error.message, (error.remedy,) if error.remedy else (), failed=True)
            return site.after(request, notice, "/")

        return take

    return [Route(f"/steer/{name}", taking(step), methods=["POST"]) for name, step in STEPS.items()]


async def _pause(status: StatusBoard, form: Form) -> str:
    minutes = form.get("minutes", [""])[0]
    seconds = PAUSES.get(minutes, PAUSES["60"])
    status.steering.pause(seconds)
    until = status.steering.pause_state.until
    return "Paused until you resume." if until is None else f"Paused until {at(until)}."


async def _resume(status: StatusBoard, _: Form) -> str:
    status.steering.resume()
    return "Resumed: jobs are asked for again."


async def _finish(status: StatusBoard, _: Form) -> str:
    status.steering.finish()
    return "Finishing: jobs under way are done first, then the worker ends."


async def _maintenance(status: StatusBoard, _: Form, *, on: bool) -> str:
    await status.steering.set_maintenance(on=on)
    return "Maintenance is on: the Horde sends your own jobs alone." if on else "Maintenance is off."


STEPS: Mapping[str, Step] = {
    "pause": _pause,
    "resume": _resume,
    "finish": _finish,
    "maintenance-on": partial(_maintenance, on=True),
    "maintenance-off": partial(_maintenance, on=False),
}
