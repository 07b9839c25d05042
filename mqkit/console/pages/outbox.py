"""The outboxes: what waits to be published, what never can be, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.asking import Part, ask_all
from mqkit.console.desk import desk_of, page
from mqkit.console.rendering.paging import ROWS, asked_page, searched
from mqkit.console.rendering.templates import REFRESH

if TYPE_CHECKING:
    from mqkit.store import Store
    from mqkit.store.outbox import Unpublished

LATE = 30.0
"""Seconds that a message may wait before it is worth a look: a relay publishes within one."""


async def show(request: Request) -> Response:
    """Show what each outbox has."""
    desk = desk_of(request)
    answers = await ask_all(desk.stores, lambda store: store.backlog())
    return page(
        request,
        "outbox.html",
        title="Outbox",
        refresh=REFRESH,
        stores=answers.given,
        problems=answers.problems,
        services=[each.store for each in desk.overview().services if each.store is not None],
        late=LATE,
        has_stores=bool(desk.stores),
    )


async def show_store(request: Request) -> Response:
    """Show what one store has not published: what waits, or what never can be."""
    name, dead = searched(request, "store", LONGEST_NAME), searched(request, "what") == "dead"
    found = [each for each in desk_of(request).stores if each.name == name]
    if not found:
        raise HTTPException(404, "This console was not given such a store.")
    number = asked_page(request)
    before = (number - 1) * ROWS

    async def ask(store: Store) -> list[Unpublished]:
        return await store.unpublished(dead=dead, limit=ROWS + 1, offset=before)

    rows = await ask(await found[0].store())
    return page(
        request,
        "outbox_store.html",
        title="Never to be published" if dead else "Waiting to be published",
        refresh=REFRESH,
        store=name,
        dead=dead,
        rows=Part(rows[:ROWS], number, len(rows) > ROWS, before + 1),
    )


LONGEST_NAME = 2_000

ROUTES = (
    Route("/outbox", show, methods=["GET"]),
    Route("/outbox/store", show_store, methods=["GET"]),
)
