"""The topology as a picture: as broker and services say that it is, or as it is declared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Page

from mqkit.clock import monotonic
from mqkit.console.desk import desk_of
from mqkit.console.rendering.paging import paged, searched
from mqkit.console.rendering.pictures import page_with_pictures
from mqkit.console.settings import ConsoleSettings
from mqkit.errors import ConfigurationError, ManagementError
from mqkit.logging.error_texts import error_text
from mqkit.management import ManagementApi
from mqkit.overview.picture import drawn
from mqkit.pictures.graph import Edge, Node, graph_svg
from mqkit.provisioning.picture import picture
from mqkit.provisioning.routes import Routes, declared_routes, look_at_routes
from mqkit.provisioning.wanted import wanted_by
from mqkit.registration.service import Service

MOST_QUEUES = 40
"""Queues of one picture: more of them could not be read."""

INSTEAD = "The bindings here are those that the services declare."

KEPT = 10.0
"""Seconds until bindings are asked for again: all of a virtual host can be many."""


@dataclass(slots=True)
class Look:
    """What the management API has said of bindings, asked for once at a time and kept a while."""

    routes: Routes | None = None
    problem: str | None = None
    _until: float = 0.0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self, settings: ConsoleSettings) -> None:
        """Ask, unless it was asked just now."""
        if settings.management is None:
            self.problem = (
                "which bindings the broker has: that takes its management API (--management)"
            )
            return
        async with self._asking:
            if monotonic() < self._until:
                return
            api = ManagementApi(settings.management.get_secret_value(), settings.url.vhost)
            try:
                self.routes, self.problem = await look_at_routes(api), None
            except ManagementError as error:
                self.problem = error_text(error)
            self._until = monotonic() + KEPT


def look_of(request: Request) -> Look:
    """Return what this console has seen of the bindings."""
    state = request.app.state
    if not hasattr(state, "topology"):
        state.topology = Look()
    look = state.topology
    assert isinstance(look, Look)
    return look


async def show(request: Request) -> Response:
    """Show the topology."""
    if searched(request, "view") == "declared" and desk_of(request).settings.services:
        return _show_declared(request)
    desk, look = desk_of(request), look_of(request)
    await look.look(desk.settings)
    overview = desk.overview()
    service = searched(request, "service")
    routes, problem = look.routes, look.problem
    if routes is None and desk.settings.services:
        routes, problem = _declared(desk.settings.services), f"{problem}. {INSTEAD}"
    found = drawn(overview, routes, services=[service] if service else (), most=MOST_QUEUES)
    return _page(
        request,
        found.nodes,
        found.edges,
        view="live",
        services=[each.name for each in overview.services],
        service=service,
        problem=problem,
        queues=found.queues,
        shown=found.shown,
    )


def _declared(services: Sequence[Service]) -> Routes | None:
    try:
        return declared_routes(wanted_by(services))
    except ConfigurationError:  # two of them declare one name in two ways: that page says it
        return None


def _show_declared(request: Request) -> Response:
    services = desk_of(request).settings.services
    names = [each.name for each in services]
    service = searched(request, "service")
    chosen = tuple(each for each in services if service in ("", each.name))
    nodes: list[Node] = []
    edges: list[Edge] = []
    problem = None
    if chosen:
        try:
            nodes, edges = picture(chosen, wanted_by(chosen))
        except ConfigurationError as error:
            problem = error_text(error)
    count = sum(each.kind == "queue" for each in nodes)
    return _page(
        request,
        nodes,
        edges,
        view="declared",
        services=names,
        service=service,
        problem=problem,
        queues=count,
        shown=count,
    )


def _page(
    request: Request, nodes: Sequence[Node], edges: Sequence[Edge], **values: object
) -> Response:
    title = f"Topology of {values['service']}" if values["service"] else "Topology"
    told = "Exchanges, queues, handlers and dead letters, and what goes between them."
    svg = graph_svg(nodes, edges, title=title, description=told)
    labels = {each.id: f"{each.kind} {each.label}" for each in nodes}
    ways = [
        (labels.get(each.source, each.source), labels.get(each.target, each.target), each)
        for each in edges
    ]
    return page_with_pictures(
        request,
        "topology.html",
        [svg],
        title="Topology",
        ways=paged(ways, request),
        has_declared=bool(desk_of(request).settings.services),
        **values,
    )


ROUTES = (Page("/topology", show, methods=["GET"]),)
