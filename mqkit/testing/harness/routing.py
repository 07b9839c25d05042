"""Finds the queues of a service that get a message, by the service's own bindings.

The broker does the routing; this only says what to wait for. So a message that comes by another
way (an exchange bound to an exchange, an alternate exchange) is not expected here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mqkit.embedded.engine.routing.matching import headers_match, topic_matches
from mqkit.message import HeaderValue
from mqkit.topology import Source, Topology


def queues_for(
    topology: Topology, exchange: str, routing_key: str, headers: Mapping[str, HeaderValue]
) -> set[str]:
    """Return the names of the queues in `topology` that a message goes to."""
    keys = [routing_key, *_further_keys(headers)]
    if not exchange:
        return {queue.name for queue in topology.queues if queue.name in keys}
    return {
        binding.queue
        for binding in topology.bindings
        if binding.source.exchange.name == exchange and _matches(binding.source, keys, headers)
    }


def _matches(source: Source, keys: Sequence[str], headers: Mapping[str, HeaderValue]) -> bool:
    match source.exchange.type:
        case "fanout":
            return True
        case "direct":
            return source.routing_key in keys
        case "topic":
            pattern = _words(source.routing_key)
            return any(topic_matches(pattern, _words(key)) for key in keys)
        case "headers":
            return headers_match(source.arguments, headers)


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _further_keys(headers: Mapping[str, HeaderValue]) -> list[str]:
    """Return the routing keys in CC and BCC (https://www.rabbitmq.com/docs/sender-selected)."""
    found: list[str] = []
    for name in ("CC", "BCC"):
        keys = headers.get(name)
        if isinstance(keys, list):
            found += [key for key in keys if isinstance(key, str)]
    return found
