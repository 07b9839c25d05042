"""Stands before every page: looks at host, session, origin and form, and answers what may not pass.

In this order:

1. `Host` is a name of this console: a page of another site whose name was bent to this address
   (DNS rebinding) would be sent with its own.
2. Only GET, HEAD and POST; all but the login and the static files need a session.
3. A POST comes from a page of this console: `Sec-Fetch-Site` and `Origin`, where the browser sends
   them, and the session's own secret in the form.

Every answer has headers by which the browser runs and loads nothing that is not the console's own.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mqkit.console.access.addresses import own_path
from mqkit.console.access.forms import Form, FormError, read_form
from mqkit.console.access.sessions import Session, Sessions
from mqkit.console.settings import ConsoleSettings
from mqkit.logging.error_reports import log_error
from mqkit.logging.shown import shown

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Nothing is loaded but from the console itself, and no script or style stands in a page."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: browsers would then send forms with `Origin: null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Of every answer that does not say otherwise."""

LOGIN = "/login"
STATIC = "/static/"

Refusal = Callable[[Request, int, str], Awaitable[Response]]
"""Makes a page that says why something is refused."""

Again = Callable[[Request, str], Response]
"""Makes a page that leads on to an address of the console's own, by itself."""


class Guard:
    """Lets pass what is asked by who may ask it; an ASGI application around another."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ConsoleSettings,
        sessions: Sessions,
        *,
        refuse: Refusal,
        again: Again,
    ) -> None:
        self._app = app
        self._settings = settings
        self._sessions = sessions
        self._refuse = refuse
        self._again = again

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        request = Request(scope, receive)

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if request.url.path.startswith(STATIC):  # asked for anew, and mostly not sent
                    headers["cache-control"] = "no-cache"
            await send(message)

        try:
            answer = await self._answer(request)
            await (answer or self._app)(scope, receive, send_safely)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - Starlette would hand it on, to be shown unmasked
            where = shown(request.url.path)
            log_error(logger, logging.ERROR, "the page %s failed", where, error=error)
            if not started:
                failed = PlainTextResponse(
                    "500: this page failed, and the console's log says why.\n", 500
                )
                await failed(scope, receive, send_safely)

    async def _answer(self, request: Request) -> Response | None:
        """Return what answers a request in the place of its page; None where it may pass."""
        if not self._settings.takes_host(request.headers.get("host", "")):
            return PlainTextResponse(
                "421: the console is not reached by this name. If it should be, start it with "
                "--allow-host and the name.\n",
                421,
            )
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("405: there are GET and POST.\n", 405)
        path = request.url.path
        session = self._sessions.find(request.cookies.get(self._settings.cookie))
        request.state.session = session
        request.state.form = None
        is_open = path == LOGIN or path.startswith(STATIC)
        if session is None and not is_open:
            return self._to_login(request)
        if request.method == "POST":
            return await self._post(request, session)
        return None

    def _to_login(self, request: Request) -> Response:
        if request.method == "POST":
            return PlainTextResponse("403: log in first; nothing was done.\n", 403)
        url = request.url
        there = own_path(url.path + (f"?{url.query}" if url.query else ""))
        # Who follows a link from another site has the cookie, which is not sent along (SameSite).
        # A page of our own asks again, with it.
        if request.headers.get("sec-fetch-site") == "cross-site":
            return self._again(request, there)
        return RedirectResponse(f"{LOGIN}?next={quote(there, safe='')}", 303)

    async def _post(self, request: Request, session: Session | None) -> Response | None:
        if (why := foreign(request.headers)) is not None:
            return await self._refuse(request, 403, f"{why}; nothing was done")
        try:
            form = await read_form(request)
        except FormError as error:
            return await self._refuse(request, error.status, f"{error}; nothing was done")
        # Who logs in shows the token, and needs no session for it.
        is_login = request.url.path == LOGIN
        if not is_login and session is not None and not _is_of(session, form):
            return await self._refuse(
                request,
                403,
                "the form is of another session, or of none; nothing was done: go back, load the "
                "page again, and send it from there",
            )
        request.state.form = form
        return None


def foreign(headers: Headers) -> str | None:
    """Say why a request does not come from a page of this console; None where it does."""
    site = headers.get("sec-fetch-site")
    if site not in (None, "same-origin"):
        return "the form comes from another site"
    origin = headers.get("origin")
    if origin is not None and _host_of(origin) != headers.get("host", "").lower():
        return "the form comes from another site"
    return None


def _host_of(origin: str) -> str | None:
    """Return host and port of an origin; None where it is no address at all."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as `http://[`, which no browser sends
        return None


def _is_of(session: Session, form: Form) -> bool:
    return hmac.compare_digest(form.get("csrf").encode(), session.csrf.encode())


__all__ = ["HEADERS", "LOGIN", "POLICY", "STATIC", "Guard", "foreign"]
