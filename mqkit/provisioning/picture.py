"""What a picture of a topology has: exchanges, queues, handlers, and what goes between them."""

from __future__ import annotations

from collections.abc import Iterator

from mqkit.pictures.graph import Edge, Node
from mqkit.provisioning.wanted import Wanted
from mqkit.registration.handler import Handler
from mqkit.registration.service import Service
from mqkit.topology import Queue


def picture(services: tuple[Service, ...], wanted: Wanted) -> tuple[list[Node], list[Edge]]:
    """Return the nodes and edges of what services declare, in the order of a message's way."""
    nodes = [
        Node(
            f"exchange {each.name}",
            each.name,
            "exchange" if each.declare else "external",
            each.type,
        )
        for each in wanted.topology.exchanges
    ]
    edges = []
    for service in services:
        if service.published:
            nodes.append(Node(f"service {service.name}", service.name, "service"))
        edges += [
            Edge(f"service {service.name}", f"exchange {each.name}") for each in service.published
        ]
    for handler in wanted.handlers:
        made, joined = list(_nodes(handler)), list(_edges(handler))
        nodes += made
        edges += joined
    return list({each.id: each for each in nodes}.values()), edges


def _nodes(handler: Handler) -> Iterator[Node]:
    queue = handler.queue
    yield Node(f"queue {queue.name}", queue.name, "queue", _note(queue))
    yield Node(f"handler {handler.name}", handler.name.rpartition(".")[2], "handler")
    if queue.dead_letters:
        yield Node(f"queue {queue.dead_queue}", queue.dead_queue, "dead letter")


def _note(queue: Queue) -> str:
    number = len(queue.partition_queues())
    return f"{queue.type}, {number} partitions" if number else queue.type


def _edges(handler: Handler) -> Iterator[Edge]:
    name = f"queue {handler.queue.name}"
    for source in handler.sources:
        yield Edge(f"exchange {source.exchange.name}", name, source.routing_key)
    yield Edge(name, f"handler {handler.name}")
    if handler.longest_retry and handler.order_by is None:
        yield Edge(f"handler {handler.name}", name, "retry", "delay")
    if handler.queue.dead_letters:
        yield Edge(
            f"handler {handler.name}", f"queue {handler.queue.dead_queue}", "", "dead letter"
        )
