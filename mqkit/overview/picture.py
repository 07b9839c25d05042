"""Draws a system as it runs: exchanges, queues, handlers, dead letters, and what goes between."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mqkit.overview.values import HandlerView, Overview, QueueView, Role
from mqkit.pictures.graph import Edge, Node
from mqkit.provisioning.routes import Routes


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture, and what there was no room for."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]
    queues: int
    """Queues that could be drawn."""
    shown: int
    """Those that are: the ones with the largest backlog."""


def drawn(
    overview: Overview, routes: Routes | None, *, services: Collection[str] = (), most: int
) -> Drawn:
    """Return the nodes and edges of a system, in the order of a message's way.

    A queue stands with its dead letters, if it has some; partitions are a note. Queues of mqkit's
    own are left out, and those that no handler consumes and no exchange leads to.

    :param routes: how messages come to queues; None, where that cannot be seen
    :param services: whose queues are drawn; empty: all, those that no service has among them
    :param most: queues that are drawn at most
    """
    handlers = [
        handler
        for service in overview.services
        if not services or service.name in services
        for handler in service.handlers
    ]
    known = {each.name: each for each in overview.queues}
    names = dict.fromkeys(each.queue for each in handlers)
    if not services:
        # Those that no service has come last; of others' queues those that an exchange leads to.
        bound = {each.destination for each in routes.routes if each.is_queue} if routes else set()
        names |= dict.fromkeys(
            each.name
            for each in sorted(overview.queues, key=lambda each: each.name not in bound)
            if each.role is Role.WORK or (each.role is Role.OTHER and each.name in bound)
        )
    largest = sorted(
        names, key=lambda name: known[name].ready if name in known else 0, reverse=True
    )
    chosen = set(largest[:most])
    edges = [] if routes is None else list(_routed(overview, routes, chosen))
    nodes = [] if routes is None else list(_exchanges(routes, edges))
    for name in names:
        if name in chosen:
            mine = [each for each in handlers if each.queue == name]
            nodes += _nodes(name, known.get(name), mine, overview)
            edges += _edges(name, mine, overview)
    return Drawn(nodes, edges, len(names), len(chosen))


def _routed(overview: Overview, routes: Routes, chosen: Collection[str]) -> Iterator[Edge]:
    """Draw what comes to the chosen queues, through however many exchanges."""
    belongs = {each.name: each.of for each in overview.queues if each.role is Role.PARTITION}
    wanted: set[str] = set()
    for each in routes.routes:
        if each.is_queue and (queue := belongs.get(each.destination, each.destination)) in chosen:
            wanted.add(each.exchange)
            yield Edge(f"exchange {each.exchange}", f"queue {queue}", each.routing_key)
    before = [each for each in routes.routes if not each.is_queue]
    while more := [each for each in before if each.destination in wanted]:
        before = [each for each in before if each.destination not in wanted]
        wanted |= {each.exchange for each in more}
        for each in more:
            ends = (f"exchange {each.exchange}", f"exchange {each.destination}")
            yield Edge(*ends, each.routing_key)


def _exchanges(routes: Routes, edges: Sequence[Edge]) -> Iterator[Node]:
    ends = {end for each in edges for end in (each.source, each.target)}
    for name, kind in routes.exchanges.items():
        if (node := f"exchange {name}") in ends:
            yield Node(node, name, "exchange", kind)


def _nodes(
    name: str, queue: QueueView | None, handlers: Sequence[HandlerView], overview: Overview
) -> Iterator[Node]:
    partitions = max((len(each.owners) for each in handlers), default=0)
    told = [queue.kind] if queue is not None and queue.kind else []
    told += [f"{partitions} partitions"] if partitions > 1 else []
    yield Node(f"queue {name}", name, "queue", ", ".join(told))
    for each in handlers:
        label = each.name.rpartition(".")[2]
        note = f"{each.service}, paused" if each.is_paused else each.service
        yield Node(_id(each), label, "handler", note)
    for dead in _dead(name, overview):
        yield Node(f"queue {dead.name}", dead.name, "dead letter", _letters(dead.ready))


def _edges(name: str, handlers: Sequence[HandlerView], overview: Overview) -> Iterator[Edge]:
    for each in handlers:
        yield Edge(f"queue {name}", _id(each))
    for dead in _dead(name, overview):
        for end in [_id(each) for each in handlers] or [f"queue {name}"]:
            yield Edge(end, f"queue {dead.name}", "", "dead letter")


def _dead(name: str, overview: Overview) -> Iterator[QueueView]:
    """Return its dead letter queue, if there is something in it; else it is in the way."""
    dead = (each for each in overview.queues if each.role is Role.DEAD and each.of == name)
    return (each for each in dead if each.ready)


def _letters(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


def _id(handler: HandlerView) -> str:
    return f"handler {handler.service} {handler.name}"
