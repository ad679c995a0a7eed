"""Signing in with the token, by its link or by hand, and out."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from worker.dashboard.security import SIGN_IN, Guard, cookie, try_token
from worker.dashboard.sessions import SESSION_S
from worker.dashboard.site import Notice, Site, visit_of
from worker.errors import InputRefused
from worker.untrusted.form import read_form


@dataclass(eq=False)
class SignIn:
    site: Site
    guard: Guard

    def routes(self) -> list[Route]:
        return [
            Route(SIGN_IN, self.show, methods=["GET"]),
            Route(SIGN_IN, self.enter, methods=["POST"]),
            Route("/sign-out", self.leave, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The form, or what the link with the token leads to."""
        token = request.query_params.get("token")
        if token is not None:
            return self._try(request, token)
        if visit_of(request).session is not None:
            return RedirectResponse(f"{self.site.path}/", 303)
        return self.site.page(request, "sign_in", title="Sign in", framed=False)

    async def enter(self, request: Request) -> Response:
        try:
            form = read_form(await request.body())
        except InputRefused:
            form = {}
        return self._try(request, form.get("token", [""])[0])

    async def leave(self, request: Request) -> Response:
        self.guard.sessions.end_all()
        answer = RedirectResponse(f"{self.site.path}{SIGN_IN}", 303)
        answer.set_cookie(**cookie(self.guard, visit_of(request), "", seconds=0))
        return answer

    def _try(self, request: Request, token: str) -> Response:
        visit, guard = visit_of(request), self.guard
        verdict = try_token(guard, visit.address, token)
        if verdict.wait_s:
            notice = Notice(f"Too many wrong tokens. Try again in {verdict.wait_s} s.", failed=True)
            answer = self.site.page(request, "sign_in", code=429, title="Sign in", framed=False, notice=notice)
            answer.headers["retry-after"] = str(verdict.wait_s)
            return answer
        if not verdict.right:
            notice = Notice("This is not the token of this worker.", failed=True)
            return self.site.page(request, "sign_in", code=403, title="Sign in", framed=False, notice=notice)
        leading = RedirectResponse(f"{self.site.path}/", 303)
        leading.set_cookie(**cookie(guard, visit, guard.sessions.begin(), seconds=SESSION_S))
        return leading
