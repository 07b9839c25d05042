"""The overview: what is wrong, and the services at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.desk import desk_of, page
from mqkit.console.rendering.templates import REFRESH
from mqkit.console.rendering.text import counted, link, share
from mqkit.overview.values import HandlerView, Overview, QueueView, Role, ServiceView
from mqkit.pause import Status

FEW = 5
"""Things of one kind that are listed; more are counted."""


@dataclass(frozen=True, slots=True)
class Matter:
    """Something to look at."""

    text: str
    address: Markup


def matters(overview: Overview) -> list[Matter]:
    """Return what is to be looked at, the worst first; of each kind a few."""
    services = overview.services
    handlers = [one for each in services for one in each.handlers]
    paused = [each for each in handlers if each.is_paused]
    failing = [each for each in handlers if each.fails_much and not each.is_paused]
    failing.sort(key=lambda each: -each.failing)
    dead = [each for each in overview.queues if each.role is Role.DEAD and each.ready]
    return [
        *_few(
            [each for one in services for each in _silent(one)],
            "services of which processes are silent",
            link("/processes"),
        ),
        *_few(
            [each for one in services for each in _not_ready(one)],
            "reasons why processes are not ready",
            link("/processes"),
        ),
        *_few(
            [each for one in services for each in _of_store(one)],
            "problems of stores",
            link("/outbox"),
        ),
        *_few(
            [_paused(each) for each in paused], "paused handlers", link("/handlers", paused="yes")
        ),
        *_few([_dead(each) for each in dead], "queues with dead letters", link("/dead-letters")),
        *_few([_failing(each) for each in failing], "handlers whose runs fail", link("/handlers")),
    ]


def _few(found: list[Matter], what: str, address: Markup) -> list[Matter]:
    """Return the first, and a word on how many more there are."""
    more = len(found) - FEW
    if more <= 1:  # one more takes no more room than the word on it
        return found
    return [*found[:FEW], Matter(f"{more} more {what}", address)]


def _silent(service: ServiceView) -> Iterator[Matter]:
    silent = [each for each in service.processes if each.is_silent]
    if len(silent) == 1:
        name = f"process {silent[0].pid} on {silent[0].host} of {service.name}"
        yield Matter(f"Nothing is heard of {name}", link("/processes", q=silent[0].id))
    elif silent:
        text = f"Nothing is heard of {len(silent)} processes of {service.name}"
        yield Matter(text, link("/processes", q=service.name))


def _not_ready(service: ServiceView) -> Iterator[Matter]:
    """Name the reasons why processes are not ready, each with how many have it."""
    # That a handler is paused is said of the handler, once for all of its processes.
    paused = tuple(
        f"queue {queue}: {Status.PAUSED}"
        for handler in service.handlers
        if handler.is_paused
        for queue in (handler.queue, *handler.owners)
    )
    reasons: Counter[str] = Counter()
    for process in service.processes:
        told = [each for each in process.problems if not each.startswith(paused)]
        if not process.is_ready and not process.is_silent and (told or not process.problems):
            reasons["; ".join(told) or "it does not say why"] += 1
    for why, count in reasons.most_common():
        text = f"{counted(count, 'process', 'processes')} of {service.name} not ready: {why}"
        yield Matter(text, link("/processes", q=service.name))


def _of_store(service: ServiceView) -> Iterator[Matter]:
    store = service.store
    if store is None:
        return
    if not store.is_up:
        yield Matter(f"The store of {service.name} is down", link("/outbox"))
    if store.dead:
        text = f"{counted(store.dead, 'message')} in the outbox of {service.name}"
        yield Matter(f"{text} can never be published", link("/outbox"))


def _address(handler: HandlerView) -> Markup:
    return link("/handlers/handler", service=handler.service, name=handler.name)


def _paused(handler: HandlerView) -> Matter:
    why = "; ".join(handler.because) or "a dependency is down"
    return Matter(f"{handler.name} is paused: {why}", _address(handler))


def _failing(handler: HandlerView) -> Matter:
    text = f"{handler.name}: {share(handler.failing)} of its runs failed in the last minute"
    return Matter(text, _address(handler))


def _dead(queue: QueueView) -> Matter:
    of = queue.of or queue.name
    text = f"{counted(queue.ready, 'dead letter')} of {of}"
    return Matter(text, link("/dead-letters/queue", queue=of))


def figures(overview: Overview) -> dict[str, float]:
    """Return the sums over the system."""
    work = [each for each in overview.queues if each.role in (Role.WORK, Role.PARTITION)]
    return {
        "services": len(overview.services),
        "processes": sum(len(each.processes) for each in overview.services),
        "silent": sum(one.is_silent for each in overview.services for one in each.processes),
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
    return page(
        request,
        "home.html",
        title="Overview",
        refresh=REFRESH,
        figures=figures(overview),
        matters=matters(overview),
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
