"""The overview: what is wrong, and the services at a glance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.desk import desk_of, page
from mqkit.console.rendering.templates import REFRESH
from mqkit.console.rendering.text import counted, link
from mqkit.overview.values import Overview, Role, ServiceView

MOST = 12
"""Things to look at that are listed; more are counted."""

FAILING = 0.1
"""The share of a handler's runs over the last minute from which on it is worth a look."""


@dataclass(frozen=True, slots=True)
class Matter:
    """Something to look at."""

    text: str
    address: Markup
    kind: str
    """'bad' or 'warn'."""


def matters(overview: Overview) -> Iterator[Matter]:
    """Return what is to be looked at, the worst first."""
    for service in overview.services:
        yield from _of_processes(service)
    for service in overview.services:
        yield from _of_handlers(service)
        yield from _of_store(service)
    for queue in overview.queues:
        if queue.role is Role.DEAD and queue.ready:
            text = f"{counted(queue.ready, 'dead letter')} of {queue.of or queue.name}"
            yield Matter(text, link("/dead-letters/queue", queue=queue.of or queue.name), "warn")


def _of_processes(service: ServiceView) -> Iterator[Matter]:
    for process in service.processes:
        where = link("/processes", q=process.id)
        name = f"process {process.pid} on {process.host} of {service.name}"
        if process.is_silent:
            yield Matter(f"Nothing is heard of {name}", where, "bad")
        elif not process.is_ready:
            why = "; ".join(process.problems) or "it does not say why"
            yield Matter(f"Not ready: {name}: {why}", where, "bad")


def _of_handlers(service: ServiceView) -> Iterator[Matter]:
    for handler in service.handlers:
        where = link("/handlers/handler", service=service.name, name=handler.name)
        if handler.is_paused:
            why = "; ".join(handler.because) or "a dependency is down"
            yield Matter(f"{handler.name} is paused: {why}", where, "warn")
        elif handler.failing >= FAILING:
            text = f"{handler.name}: {handler.failing:.0%} of its runs failed in the last minute"
            yield Matter(text, where, "warn")


def _of_store(service: ServiceView) -> Iterator[Matter]:
    store = service.store
    if store is None:
        return
    if not store.is_up:
        yield Matter(f"The store of {service.name} is down", link("/outbox"), "bad")
    if store.dead:
        text = f"{counted(store.dead, 'message')} in the outbox of {service.name}"
        text += " can never be published"
        yield Matter(text, link("/outbox"), "warn")


def figures(overview: Overview) -> dict[str, float]:
    """Return the sums over the system."""
    work = [each for each in overview.queues if each.role in (Role.WORK, Role.PARTITION)]
    return {
        "services": len(overview.services),
        "processes": sum(len(each.processes) for each in overview.services),
        "handlers": sum(len(each.handlers) for each in overview.services),
        "paused": sum(one.is_paused for each in overview.services for one in each.handlers),
        "backlog": sum(each.ready for each in work),
        "dead": sum(each.ready for each in overview.queues if each.role is Role.DEAD),
        "rate": sum(one.rate for each in overview.services for one in each.handlers),
        "published": sum(each.publish_rate for each in overview.services),
    }


async def show(request: Request) -> Response:
    """Show the overview."""
    overview = desk_of(request).overview()
    found = sorted(matters(overview), key=lambda each: each.kind != "bad")
    return page(
        request,
        "home.html",
        title="Overview",
        refresh=REFRESH,
        figures=figures(overview),
        matters=found[:MOST],
        more=max(len(found) - MOST, 0),
        services=overview.services,
        dead_of={
            each.name: sum(
                queue.ready
                for queue in overview.queues
                if queue.role is Role.DEAD and queue.of in {one.queue for one in each.handlers}
            )
            for each in overview.services
        },
    )


ROUTES = (Route("/", show, methods=["GET"]),)
