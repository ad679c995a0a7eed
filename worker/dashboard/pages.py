"""The pages that are read: overview, jobs, models, log; and the events that keep them up to date."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from worker.dashboard import views
from worker.dashboard.charts import jobs_chart, kudos_chart
from worker.dashboard.events import EventStream, Fragment, LiveFragments, Readers
from worker.dashboard.security import Guard
from worker.dashboard.site import Site, static, visit_of
from worker.errors import Blame
from worker.status.board import StatusBoard
from worker.status.hourly_counts import sums
from worker.status.snapshot import Outcome, Snapshot, Tally

#: Jobs on one page, lines of the log, and hours of the charts.
JOBS_SHOWN, LINES_SHOWN, HOURS_SHOWN = 50, 300, 24
#: Characters of a filter that are looked at, and digits of a page's number.
LONGEST_FILTER, LONGEST_NUMBER = 200, 6
RECENT = 8
#: Of the log, as they can be chosen.
LEVELS = ("INFO", "WARNING", "ERROR")


class Pages:
    def __init__(self, site: Site, guard: Guard) -> None:
        self._site = site
        self._status: StatusBoard = site.status
        self._guard = guard
        self._readers = Readers()
        self._live = LiveFragments(self._fragments())

    def routes(self) -> list[Route]:
        return [
            Route("/", self.overview),
            Route("/jobs", self.jobs),
            Route("/jobs/{id}", self.job),
            Route("/jobs/{id}/picture", self.picture),
            Route("/models", self.models),
            Route("/log", self.log),
            Route("/events", self.events),
            Route("/static/{name}", static),
        ]

    async def overview(self, request: Request) -> Response:
        snapshot = self._status.snapshot()
        return self._site.page(
            request, "overview", title="Overview", snapshot=snapshot, parts=self._live.html(snapshot)
        )

    async def jobs(self, request: Request) -> Response:
        """The jobs of the last day, filtered, in pages."""
        query = {key: value[:LONGEST_FILTER] for key, value in request.query_params.items()}
        page = query.get("page", "")
        number = max(1, int(page)) if page.isdecimal() and len(page) <= LONGEST_NUMBER and page.isascii() else 1
        chosen = {key: query.get(key, "") for key in ("model", "outcome", "blame")}
        jobs, total = self._status.history(
            offset=(number - 1) * JOBS_SHOWN, limit=JOBS_SHOWN, wanted=views.wanted(**chosen)
        )
        worked = [name for hour in self._status.hours(HOURS_SHOWN + 1) for name in hour.models]
        return self._site.page(
            request,
            "jobs",
            title="Jobs",
            jobs=jobs,
            total=total,
            page=number,
            last_page=max(1, -(-total // JOBS_SHOWN)),
            chosen=chosen,
            models=sorted({*worked, *([chosen["model"]] if chosen["model"] else [])}),
            outcomes=[outcome.value for outcome in Outcome],
            blames=[blame.value for blame in Blame],
            views=views,
        )

    async def job(self, request: Request) -> Response:
        """One job with the seconds of each stage."""
        id_ = request.path_params["id"]
        jobs, _ = self._status.history(limit=1, wanted=lambda job: job.id == id_)
        if not jobs:
            return self._site.page(request, "gone", code=404, title="No such job")
        return self._site.page(
            request,
            "job",
            title=f"Job {jobs[0].id[:8]}",
            job=jobs[0],
            prompt=self._status.shown.prompt(id_),
            has_picture=self._status.shown.picture(id_) is not None,
            views=views,
        )

    async def picture(self, request: Request) -> Response:
        """What a job has made, for an owner who wants to see it."""
        found = self._status.shown.picture(request.path_params["id"])
        if found is None:
            return PlainTextResponse("There is no picture to show.\n", 404)
        return Response(found, media_type="image/webp")

    async def models(self, request: Request) -> Response:
        """What is served, what is withheld, what is fetched."""
        snapshot = self._status.snapshot()
        worked: Mapping[str, Tally] = reduce(sums, (hour.models for hour in self._status.hours(HOURS_SHOWN)))
        return self._site.page(
            request,
            "models",
            title="Models",
            snapshot=snapshot,
            parts=self._live.html(snapshot),
            worked=worked,
            nothing=Tally(),
        )

    async def log(self, request: Request) -> Response:
        """The last lines of the log, without secrets."""
        least = request.query_params.get("level", "INFO")
        level = LEVELS.index(least) if least in LEVELS else 0
        shown = [line for line in self._status.log.last(LINES_SHOWN) if _rank(line.level) >= level]
        return self._site.page(
            request,
            "log",
            title="Log",
            lines=shown,
            level=LEVELS[level],
            levels=LEVELS,
        )

    async def events(self, request: Request) -> Response:
        """The fragments of the overview as they change."""
        visit = visit_of(request)
        if visit.session is None:
            return PlainTextResponse("Events are for browsers; programs read /api/status.\n", 400)
        if not self._readers.enter(visit.address):
            return PlainTextResponse("Too many pages are open.\n", 503, {"retry-after": "30"})
        value = request.cookies.get(self._guard.sessions.cookie, "")
        # As callable by Starlette as any of its responses.
        stream: Any = EventStream(
            self._status,
            self._live,
            self._readers,
            address=visit.address,
            may_go_on=lambda: self._guard.sessions.find(value) is not None,
        )
        answer: Response = stream
        return answer

    def _fragments(self) -> dict[str, Fragment]:
        def part(name: str, look: Callable[[Snapshot], Any]) -> Fragment:
            return look, lambda shown: self._site.part(name, it=shown, views=views)

        def draw(hours: Any) -> str:
            return self._site.part("charts", charts=(kudos_chart(hours), jobs_chart(hours)), hours=hours)

        return {
            "phase": (lambda snapshot: snapshot.phase.value, str),
            "headline": part("headline", views.headline),
            "figures": part("figures", lambda snapshot: views.figures(snapshot, self._status.hours(HOURS_SHOWN))),
            "attention": part("attention", views.attention),
            "slots": part("slots", lambda snapshot: (snapshot.slots, views.queue_line(snapshot))),
            "why": part("why", views.why_not_more),
            "charts": (lambda _: self._status.hours(HOURS_SHOWN), draw),
            "recent": part("recent", lambda snapshot: snapshot.ended[:RECENT]),
            "downloads": part("downloads", lambda snapshot: snapshot.downloads),
            "horde": part("horde", lambda snapshot: snapshot.standing),
        }


def _rank(level: str) -> int:
    """Where a level of the log stands among those that can be chosen."""
    return LEVELS.index(level) if level in LEVELS else {"CRITICAL": 2}.get(level, 0)
