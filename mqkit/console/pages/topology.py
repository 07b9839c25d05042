"""The topology as a picture: as broker and services say that it is, or as it is declared."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Page

from mqkit.console.desk import desk_of
from mqkit.console.rendering.paging import paged, searched
from mqkit.console.rendering.pictures import page_with_pictures
from mqkit.errors import ConfigurationError
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

NO_MANAGEMENT = "which bindings the broker has: that takes its management API (--management)"


async def routes_of(request: Request) -> tuple[Routes | None, str | None]:
    """Return what is known of bindings, and what is not.

    All of a virtual host can be many: they are asked for in the background, and kept a while.
    """
    desk = desk_of(request)
    settings = desk.settings
    if settings.management is None:
        return None, NO_MANAGEMENT
    api = ManagementApi(settings.management.get_secret_value(), settings.url.vhost)
    look = await desk.looks.at(("routes",), lambda: look_at_routes(api))
    if look.error is not None:
        return look.found, error_text(look.error)
    if look.found is None:
        return None, "which bindings the broker has, yet: it is being asked; load this page again"
    return look.found, None


async def show(request: Request) -> Response:
    """Show the topology."""
    if searched(request, "view") == "declared" and desk_of(request).settings.services:
        return _show_declared(request)
    desk = desk_of(request)
    routes, problem = await routes_of(request)
    overview = desk.overview()
    service = searched(request, "service")
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
