"""The partitions of ordered handlers, and which process owns each."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.desk import desk_of, page
from mqkit.console.pages.handlers import partitions_of, processes_by_id
from mqkit.console.rendering.paging import has, paged, searched
from mqkit.console.rendering.templates import REFRESH

HANDLERS = 10
"""Handlers of a page; one has some ten partitions, as a rule."""


async def show(request: Request) -> Response:
    """Show the handlers that have partitions, with their owners."""
    overview = desk_of(request).overview()
    words = searched(request)
    found = [
        each
        for one in overview.services
        for each in one.handlers
        if each.owners and has(words, each.name, one.name, each.queue)
    ]
    queues = {each.name: each for each in overview.queues}
    return page(
        request,
        "partitions.html",
        title="Partitions",
        refresh=REFRESH,
        rows=paged([(each, partitions_of(each, queues)) for each in found], request, HANDLERS),
        processes=processes_by_id(overview),
        is_filtered=bool(words),
    )


ROUTES = (Route("/partitions", show, methods=["GET"]),)
