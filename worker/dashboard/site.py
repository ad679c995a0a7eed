"""What every page has: templates, the frame around them, notices after a step, files of style and script."""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from worker.bounded_dict import BoundedDict
from worker.dashboard.security import Visit
from worker.dashboard.words import FILTERS
from worker.status.board import StatusBoard

HERE: Final = Path(__file__).parent
#: Sessions that may have a notice waiting.
MOST_NOTICES: Final = 64
#: The pages in the order in which they are offered.
PAGES: Final = (
    ("/", "Overview"),
    ("/jobs", "Jobs"),
    ("/models", "Models"),
    ("/settings", "Settings"),
    ("/log", "Log"),
    ("/workers", "Workers"),
)


@dataclass(frozen=True)
class Notice:
    """What came of a step, shown once."""

    text: str
    #: further sentences
    lines: tuple[str, ...] = ()
    failed: bool = False


@dataclass
class Site:
    """Renders pages for a request."""

    status: StatusBoard
    #: below which everything stands; without a slash at its end
    path: str = ""
    notices: BoundedDict[str, Notice] = field(default_factory=lambda: BoundedDict(MOST_NOTICES))

    def __post_init__(self) -> None:
        templates(), static_files()

    def page(self, request: Request, name: str, *, code: int = 200, framed: bool = True, **values: Any) -> Response:
        """A whole page; `framed` with what every page but that to sign in shows of the worker."""
        visit = visit_of(request)
        notice = values.pop("notice", None) or self.notices.pop(visit.session.id if visit.session else "", None)
        if framed:
            values = {"snapshot": self.status.snapshot(), **values}
        html = (
            templates()
            .get_template(f"{name}.html")
            .render(
                here=request.url.path.rstrip("/") or "/",
                base=self.path,
                csrf=visit.csrf,
                signed_in=visit.session is not None and framed,
                notice=notice,
                pages=PAGES,
                files=static_files(),
                **values,
            )
        )
        return HTMLResponse(html, code)

    def part(self, name: str, **values: Any) -> str:
        return templates().get_template(f"parts/{name}.html").render(base=self.path, **values)

    async def missing(self, request: Request, error: Exception) -> Response:
        """What is said where no page is: to a browser as a page, with the way to the others."""
        code, headers = 404, None
        if isinstance(error, HTTPException):
            code, headers = error.status_code, error.headers
        if visit_of(request).session is None or "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("Nothing is at this address.\n", code, headers)
        answer = self.page(request, "missing", code=code, title="No such page")
        answer.headers.update(headers or {})
        return answer

    def after(self, request: Request, notice: Notice, to: str) -> Response:
        """Lead the browser to a page that shows the notice."""
        session = visit_of(request).session
        if session is not None:
            self.notices[session.id] = notice
        return RedirectResponse(f"{self.path}{to}", 303)


def visit_of(request: Request) -> Visit:
    """What the gate found out about this request."""
    visit: Visit = request.state.visit
    return visit


@cache
def templates() -> Environment:
    """Whatever is put into a template is escaped, unless the template itself made it.

    All are read at once: an update may exchange the files under a running worker, whose code is of the old version.
    """
    folder = HERE / "templates"
    environment = Environment(
        loader=DictLoader(
            {
                file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
                for file in sorted(folder.rglob("*.html"))
            }
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(FILTERS)
    return environment


@dataclass(frozen=True)
class StaticFile:
    """A file of style, script or picture, in memory."""

    content: bytes
    kind: str
    #: stands in its address, so that it may be kept for ever
    tag: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Every file there is, by its name: what is not among them can't be asked for."""
    return {
        file.name: StaticFile(
            content := file.read_bytes(),
            mimetypes.guess_type(file.name)[0] or "application/octet-stream",
            hashlib.sha256(content).hexdigest()[:12],
        )
        for file in sorted((HERE / "static").iterdir())
        if file.is_file()
    }


async def static(request: Request) -> Response:
    found = static_files().get(request.path_params["name"])
    if found is None:
        return PlainTextResponse("There is no such file.\n", 404)
    kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == found.tag else "no-cache"
    return Response(found.content, 200, {"cache-control": kept}, media_type=found.kind)
