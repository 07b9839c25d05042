"""Looks at the broker and its services before a page of the console is made."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mqkit.console.access.guard import STATIC
from mqkit.console.sources import Watching


class LooksFirst:
    """Has the system looked at before a page of a session; an ASGI application around another."""

    def __init__(self, app: ASGIApp, watching: Watching) -> None:
        self._app = app
        self._watching = watching

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look, if what is asked for is a page that shows something, and hand the request on."""
        if scope["type"] == "http" and _shows_something(Request(scope)):
            await self._watching.fresh()
        await self._app(scope, receive, send)


def _shows_something(request: Request) -> bool:
    """Whether a request that the guard has let pass is for a page of a session."""
    return request.state.session is not None and not request.url.path.startswith(STATIC)
