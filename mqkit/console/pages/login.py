"""Login and logout, and the choice between light and dark."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from mqkit.console.access.addresses import own_path
from mqkit.console.access.forms import Form
from mqkit.console.access.guard import LOGIN
from mqkit.console.desk import desk_of, lead_on, page, session_of
from mqkit.console.rendering.templates import THEME_COOKIE, THEMES

YEAR = 365 * 86_400


def form_of(request: Request) -> Form:
    """Return the form of a POST, which the guard has read and checked."""
    form = request.state.form
    assert isinstance(form, Form)
    return form


async def show(request: Request) -> Response:
    """Ask for the token; or let in by a login link, once."""
    there = own_path(request.query_params.get("next", "/"))
    code = request.query_params.get("code")
    if code is None:
        return page(request, "login.html", title="Log in", there=there, problem=None)
    if await desk_of(request).door.takes_code(code):
        # No redirect: after one, a link from another site would not send the new cookie along.
        return _let_in(request, lead_on(request, "/"))
    problem = "This link was used already, or is too old. Give the token in its place."
    return page(request, "login.html", title="Log in", there="/", problem=problem, status=403)


async def check(request: Request) -> Response:
    """Let in who gives the token."""
    form, door = form_of(request), desk_of(request).door
    if door.is_overrun:
        return PlainTextResponse(
            "429: too many wrong tokens were given; try again in some seconds.\n", 429
        )
    there = own_path(form.get("next", "/"))
    if await door.takes(form.get("token")):
        return _let_in(request, RedirectResponse(there, 303))
    problem = "This is not the token."
    return page(request, "login.html", title="Log in", there=there, problem=problem, status=403)


def _let_in(request: Request, answer: Response) -> Response:
    desk = desk_of(request)
    if request.state.session is not None:  # one that was fixed before the login is worth nothing
        desk.sessions.end(request.state.session)
    session = desk.sessions.begin()
    answer.set_cookie(
        desk.settings.cookie,
        session.id,
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )
    return answer


def _is_https(request: Request) -> bool:
    """Whether the browser came by HTTPS, to this process or to a proxy before it."""
    proxied = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in (request.url.scheme, proxied)


async def leave(request: Request) -> Response:
    """End the session."""
    desk = desk_of(request)
    desk.sessions.end(session_of(request))
    answer = RedirectResponse(LOGIN, 303)
    answer.delete_cookie(desk.settings.cookie, httponly=True, samesite="strict")
    return answer


async def choose_theme(request: Request) -> Response:
    """Keep in a cookie whether pages are light or dark; else the browser's own choice holds."""
    form = form_of(request)
    answer = RedirectResponse(own_path(form.get("next", "/")), 303)
    theme = form.get("theme")
    chosen = theme if theme in THEMES else "as the system says"
    session_of(request).note(f"Pages are {chosen} now.")
    if theme in THEMES:
        secure = _is_https(request)
        answer.set_cookie(
            THEME_COOKIE, theme, max_age=YEAR, httponly=True, samesite="strict", secure=secure
        )
    else:
        answer.delete_cookie(THEME_COOKIE, httponly=True, samesite="strict")
    return answer


ROUTES = (
    Route(LOGIN, show, methods=["GET"]),
    Route(LOGIN, check, methods=["POST"]),
    Route("/logout", leave, methods=["POST"]),
    Route("/theme", choose_theme, methods=["POST"]),
)
