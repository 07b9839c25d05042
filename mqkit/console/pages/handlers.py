"""The handlers: what became of their messages, which are paused, and why."""

from __future__ import annotations

from dataclasses import asdict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.desk import desk_of, page
from mqkit.console.rendering.paging import has, paged, searched
from mqkit.console.rendering.templates import REFRESH
from mqkit.overview.values import HandlerView, Overview, QueueView, Role
from mqkit.pause import Status

STATES = {
    Status.CONSUMING: "good",
    Status.PAUSED: "warn",
    Status.DETACHED: "bad",
    Status.STOPPED: "plain",
}
"""How each state of a consumer is coloured."""

OUTCOMES = {
    "acked": "Acked",
    "retried": "To be tried again",
    "dead_lettered": "Dead-lettered",
    "requeued": "Given back",
    "lost": "Outcome lost with a connection",
}
"""What a page calls the outcomes of deliveries."""


def dead_letters(overview: Overview) -> dict[str, int]:
    """Count dead letters by the queue that they came from."""
    return {each.of or each.name: each.ready for each in overview.queues if each.role is Role.DEAD}


async def show(request: Request) -> Response:
    """Show the handlers."""
    overview = desk_of(request).overview()
    words, service = searched(request), searched(request, "service")
    only_paused = searched(request, "paused") == "yes"
    rows = [
        each
        for one in overview.services
        for each in one.handlers
        if service in ("", one.name)
        and has(words, each.name, each.queue, one.name)
        and (each.is_paused or not only_paused)
    ]
    return page(
        request,
        "handlers.html",
        title="Handlers",
        refresh=REFRESH,
        rows=paged(rows, request),
        services=[each.name for each in overview.services],
        service=service,
        only_paused=only_paused,
        states=STATES,
        dead=dead_letters(overview),
        is_filtered=bool(words or service or only_paused),
    )


async def show_one(request: Request) -> Response:
    """Show one handler."""
    overview = desk_of(request).overview()
    asked = request.query_params
    handler = _find(overview, asked.get("service", ""), asked.get("name", ""))
    queues = {each.name: each for each in overview.queues}
    return page(
        request,
        "handler.html",
        title=f"Handler {handler.name}",
        refresh=REFRESH,
        handler=handler,
        outcomes=[(OUTCOMES[name], count) for name, count in asdict(handler.outcomes).items()],
        queue=queues.get(handler.queue),
        partitions=partitions_of(handler, queues),
        processes=processes_by_id(overview),
        states=STATES,
        dead=dead_letters(overview).get(handler.queue, 0),
    )


def _find(overview: Overview, service: str, name: str) -> HandlerView:
    for one in overview.services:
        for each in one.handlers:
            if (one.name, each.name) == (service, name):
                return each
    raise HTTPException(
        404, "There is no such handler now: its processes may have ended, or say nothing."
    )


def partitions_of(
    handler: HandlerView, queues: dict[str, QueueView]
) -> list[tuple[str, QueueView | None, str]]:
    """Return the partitions of a handler: each queue's name, its figures, and its owner's id."""
    return [(name, queues.get(name), owner) for name, owner in sorted(handler.owners.items())]


def processes_by_id(overview: Overview) -> dict[str, object]:
    """Return all processes by their ids."""
    return {each.id: each for one in overview.services for each in one.processes}


ROUTES = (
    Route("/handlers", show, methods=["GET"]),
    Route("/handlers/handler", show_one, methods=["GET"]),
)
