"""Puts the console together: its pages, the guard before them, and how errors are shown."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from mqkit.console.access.guard import Guard
from mqkit.console.desk import Desk, desk_of, lead_on, page
from mqkit.console.letters.jobs import JobRunningError
from mqkit.console.looking import LooksFirst
from mqkit.console.pages import (
    dead_letters,
    handlers,
    home,
    jobs,
    login,
    message,
    outbox,
    partitions,
    processes,
    queues,
    sagas,
    topology,
)
from mqkit.console.pages.changing import Changing
from mqkit.console.settings import ConsoleSettings
from mqkit.console.sources import Watching
from mqkit.dead_letters import (
    DeadLetterNotFoundError,
    DeadLettersInUseError,
    NotADeadLetterQueueError,
)
from mqkit.errors import BrokerError, ConfigurationError, MqkitError, StoreError
from mqkit.logging.error_texts import error_text

logger = logging.getLogger(__name__)

STATIC_FILES = Path(__file__).parent / "static"

PAGES: tuple[Sequence[BaseRoute], ...] = (
    login.ROUTES,
    home.ROUTES,
    queues.ROUTES,
    handlers.ROUTES,
    partitions.ROUTES,
    processes.ROUTES,
    message.ROUTES,
    sagas.ROUTES,
    outbox.ROUTES,
    topology.ROUTES,
    dead_letters.ROUTES,
    jobs.ROUTES,
)
"""Routes of all modules of pages."""

STATUSES: tuple[tuple[type[MqkitError], int], ...] = (
    (DeadLettersInUseError, 409),
    (JobRunningError, 409),
    (DeadLetterNotFoundError, 404),
    (NotADeadLetterQueueError, 404),
    (BrokerError, 503),
    (StoreError, 503),
    (ConfigurationError, 400),
)
"""How errors of mqkit's are answered; others with 500."""


def create_app(settings: ConsoleSettings, watching: Watching) -> Starlette:
    """Make the ASGI application of a console.

    :param watching: the system that it shows, watched already while the application runs
    """
    desk = Desk(settings, watching)
    routes = [
        each if not isinstance(each, Changing) or settings.allow_changes else each.refused()
        for some in PAGES
        for each in some
    ]
    guard = Middleware(
        Guard, settings=settings, sessions=desk.sessions, refuse=refuse, again=lead_on
    )
    app = Starlette(
        routes=[
            *routes,
            Mount("/static", StaticFiles(directory=STATIC_FILES), name="static"),
        ],
        middleware=[guard, Middleware(LooksFirst, watching=watching)],
        exception_handlers={MqkitError: _failed, HTTPException: _http_failed},
        lifespan=_closing,
    )
    # Its redirect would name a whole address, which behind a proxy that ends TLS is another one.
    app.router.redirect_slashes = False
    app.state.desk = desk
    return app


@contextlib.asynccontextmanager
async def _closing(app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await app.state.desk.close()


async def refuse(request: Request, status: int, why: str) -> Response:
    """Answer with a page that says why something was not done."""
    return page(request, "problem.html", title="Not done", status=status, why=why)


async def _failed(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    why = desk_of(request).masker.mask(error_text(error))
    return page(request, "problem.html", title="This did not work", status=status, why=why)


async def _http_failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = "There is no such page" if error.status_code == 404 else "Not done"  # noqa: PLR2004
    why = WORDS.get(error.status_code, error.detail) if _is_plain(error) else error.detail
    answer = page(request, "problem.html", title=title, status=error.status_code, why=why)
    answer.headers.update(error.headers or {})
    return answer


WORDS = {
    404: "This address leads to no page of the console.",
    405: "This address takes no such request: a page is loaded by GET, and a form sent by POST.",
}
"""What a page says where a status is all that is known."""


def _is_plain(error: HTTPException) -> bool:
    """Whether an error says no more than its status does."""
    return error.detail == HTTPStatus(error.status_code).phrase


__all__ = ["create_app"]
