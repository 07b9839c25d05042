"""The queues of the broker: backlog, rates, and who consumes them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.desk import desk_of, page
from mqkit.console.rendering.paging import has, paged, searched
from mqkit.console.rendering.templates import REFRESH
from mqkit.dead_letters.queues import Names
from mqkit.overview.values import HandlerView, Overview, QueueView, Role

ROLES = {
    Role.WORK: "work",
    Role.PARTITION: "partition",
    Role.DEAD: "dead letters",
    Role.ARCHIVE: "archive",
    Role.DELAY: "delays",
    Role.OTHER: "not mqkit's",
}
"""What a page calls the roles of queues."""

ACCOUNT = Names("").audit
"""How names end of queues that keep who did what with dead letters."""


def role_words(queue: QueueView) -> str:
    """Say what a queue is for, and that it is of another kind than usual."""
    if queue.role is Role.OTHER and queue.name.endswith(ACCOUNT):
        return "audit of what was done with dead letters"
    kind = f", {queue.kind}" if queue.kind not in ("", "quorum") else ""
    return f"{ROLES[queue.role]}{kind}"


def handlers_by_queue(overview: Overview) -> dict[str, HandlerView]:
    """Return the handler of each queue that one consumes, partitions among them."""
    found: dict[str, HandlerView] = {}
    for service in overview.services:
        for handler in service.handlers:
            found[handler.queue] = handler
            found.update(dict.fromkeys(handler.owners, handler))
    return found


async def show(request: Request) -> Response:
    """Show the queues."""
    overview = desk_of(request).overview()
    words, role = searched(request), searched(request, "role")
    rows = [
        each
        for each in overview.queues
        if has(words, each.name, each.of) and role in ("", each.role)
    ]
    return page(
        request,
        "queues.html",
        title="Queues",
        refresh=REFRESH,
        rows=paged(rows, request),
        roles=ROLES,
        role_words=role_words,
        role=role,
        handlers=handlers_by_queue(overview),
        is_filtered=bool(words or role),
    )


ROUTES = (Route("/queues", show, methods=["GET"]),)
