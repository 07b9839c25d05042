"""The processes that run services: which are heard, ready, and how busy."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.desk import desk_of, page
from mqkit.console.rendering.paging import has, paged, searched
from mqkit.console.rendering.templates import REFRESH


async def show(request: Request) -> Response:
    """Show the processes; those that are not heard or not ready first."""
    overview = desk_of(request).overview()
    words = searched(request)
    rows = [
        each
        for one in overview.services
        for each in one.processes
        if has(words, each.id, one.name, each.host, str(each.pid))
    ]
    rows.sort(key=lambda each: (not each.is_silent, each.is_ready, each.service, each.id))
    return page(
        request,
        "processes.html",
        title="Processes",
        refresh=REFRESH,
        rows=paged(rows, request),
        is_filtered=bool(words),
    )


ROUTES = (Route("/processes", show, methods=["GET"]),)
