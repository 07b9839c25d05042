"""Holds what the pages of one running console share."""

from __future__ import annotations

import contextlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mqkit.console.access.sessions import Session, Sessions
from mqkit.console.access.tokens import Door
from mqkit.console.letters.looks import Looks
from mqkit.console.letters.work import LetterWork
from mqkit.console.rendering.templates import Templates
from mqkit.console.settings import ConsoleSettings
from mqkit.console.sources import Watching, close_all, stores_of
from mqkit.overview.values import Overview

PAGES = (
    ("/", "Overview"),
    ("/queues", "Queues"),
    ("/handlers", "Handlers"),
    ("/partitions", "Partitions"),
    ("/processes", "Processes"),
    ("/dead-letters", "Dead letters"),
    ("/message", "Messages"),
    ("/sagas", "Sagas"),
    ("/outbox", "Outbox"),
    ("/topology", "Topology"),
)
"""Paths and names of what each page leads to, in its order."""


class Desk:
    """What the pages share: settings, sources, sessions, templates."""

    def __init__(self, settings: ConsoleSettings, watching: Watching) -> None:
        self.settings = settings
        self.masker = settings.masker()
        self._watching = watching
        self.sessions = Sessions()
        self.door = Door(settings.token)
        self.stores = stores_of(settings.stores)
        self.letters = LetterWork(settings, self.masker, self.stores)
        self.looks = Looks()
        """What pages have asked for that takes long, apart from dead letters."""
        self.templates = Templates(self.masker, pages=PAGES, common=self._common)

    def overview(self) -> Overview:
        """Return what is known of the system now."""
        return self._watching.overview()

    async def close(self) -> None:
        """Stop what is under way, and close the stores."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(close_all, self.stores)
            stack.push_async_callback(self.looks.close)
            stack.push_async_callback(self.letters.close)

    def _common(self) -> dict[str, Any]:
        return {"overview": self.overview(), "allow_changes": self.settings.allow_changes}


def desk_of(request: Request) -> Desk:
    """Return the desk of the console that a request came to."""
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


def session_of(request: Request) -> Session:
    """Return the session of a request that the guard let pass with one."""
    session = request.state.session
    assert isinstance(session, Session)
    return session


def page(request: Request, template: str, *, title: str, **values: Any) -> Response:
    """Render a page of the console that a request came to; as `Templates.page`."""
    return desk_of(request).templates.page(request, template, title=title, **values)


def lead_on(request: Request, there: str) -> Response:
    """Make a page that leads on to an address of the console's own, by itself."""
    return page(request, "bounce.html", title="One moment", there=there)
