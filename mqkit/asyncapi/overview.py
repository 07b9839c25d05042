"""Draws who sends what to whom, as an AsyncAPI document tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mqkit.asyncapi.reading import Reader
from mqkit.pictures.graph import Edge, Node, graph_svg


def overview(reader: Reader) -> str:
    """Return a picture of services and the exchanges between them.

    A queue is drawn where no exchange leads to it: what is sent there is sent to it by name.

    :raises AsyncapiError: something in the document is not as it should be
    """
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    for name, value in reader.part("operations").items():
        place = f"operations/{name}"
        operation = reader.mapping(reader.followed(value, place), place)
        service = _service(operation, reader, nodes)
        if operation.get("action") == "send":
            channel, key = _channel(operation.get("channel"), reader, nodes)
            edges.append(Edge(service, channel, key))
            continue
        bound = reader.listed(operation.get("x-bound-to"), f"{place}/x-bound-to")
        for each in bound or [operation.get("channel")]:
            channel, key = _channel(each, reader, nodes)
            edges.append(Edge(channel, service, key))
    return graph_svg(
        list(nodes.values()),
        edges,
        title="Who sends what to whom",
        description="Each service with the exchanges that it publishes to and gets messages from.",
    )


def _service(operation: Mapping[str, Any], reader: Reader, nodes: dict[str, Node]) -> str:
    tags = reader.listed(operation.get("tags"), "tags")
    name = str(tags[0].get("name")) if tags and isinstance(tags[0], dict) else "services"
    return nodes.setdefault(f"service {name}", Node(f"service {name}", name, "service")).id


def _channel(reference: Any, reader: Reader, nodes: dict[str, Node]) -> tuple[str, str]:
    """Add a channel's queue or exchange; return its node, and the key where it is an exchange."""
    channel = reader.mapping(reader.followed(reference, "channel"), "channel")
    bindings = reader.mapping(reader.followed(channel.get("bindings", {}), "bindings"), "bindings")
    amqp = reader.mapping(bindings.get("amqp", {}), "amqp")
    address = channel.get("address")
    for kind in ("queue", "exchange"):
        if kind in amqp:
            name = str(reader.mapping(amqp[kind], kind).get("name"))
            key = "" if kind == "queue" or address is None else str(address)
            return nodes.setdefault(f"{kind} {name}", Node(f"{kind} {name}", name, kind)).id, key
    name = str(address)
    return nodes.setdefault(f"address {name}", Node(f"address {name}", name, "external")).id, ""
