"""Writes what services declare as RabbitMQ's definitions, for `rabbitmqctl import_definitions`.

The format is that of `rabbitmqctl export_definitions` (https://www.rabbitmq.com/docs/definitions).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mqkit.broker.states import STATES
from mqkit.errors import ConfigurationError
from mqkit.provisioning.ladder import Ladder
from mqkit.provisioning.wanted import Wanted


def definitions(wanted: Wanted, vhost: str, ladder: Ladder | None = None) -> dict[str, Any]:
    """Return the definitions of a virtual host: exchanges, queues and bindings, and no users.

    :param ladder: the delay ladder, if it shall be in them
    :raises ConfigurationError: an argument has a type that JSON does not have
    """
    topology = wanted.topology
    exchanges = [
        _exchange(vhost, e.name, e.type, e.arguments, e.durable, e.auto_delete, e.internal)
        for e in topology.exchanges
        if e.declare
    ]
    queues = [
        _queue(vhost, q.name, q.declared_arguments(), durable=q.durable)
        for q in topology.queues
        if q.declare
    ]
    bindings = [
        _binding(
            vhost,
            b.source.exchange.name,
            b.queue,
            "queue",
            b.source.routing_key,
            b.source.arguments,
        )
        for b in topology.bindings
    ]
    if ladder is not None:
        exchanges += [_exchange(vhost, e.name, e.type, e.arguments) for e in ladder.exchanges]
        exchanges.append(_exchange(vhost, STATES, "fanout", {}))
        queues += [_queue(vhost, q.name, q.arguments) for q in ladder.queues]
        bindings += [
            _binding(vhost, b.source, b.destination, b.kind, b.routing_key, b.arguments)
            for b in ladder.bindings
        ]
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": exchanges,
        "queues": queues,
        "bindings": bindings,
    }


def _exchange(  # noqa: PLR0917 - in the order of an exchange's fields
    vhost: str,
    name: str,
    kind: str,
    arguments: Mapping[str, Any],
    durable: bool = True,
    auto_delete: bool = False,
    internal: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "type": kind,
        "durable": durable,
        "auto_delete": auto_delete,
        "internal": internal,
        "arguments": _plain(f"exchange {name}", arguments),
    }


def _queue(
    vhost: str, name: str, arguments: Mapping[str, Any], *, durable: bool = True
) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "durable": durable,
        "auto_delete": False,
        "arguments": _plain(f"queue {name}", arguments),
    }


def _binding(  # noqa: PLR0917 - from one end to the other
    vhost: str, source: str, to: str, kind: str, routing_key: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "source": source,
        "vhost": vhost,
        "destination": to,
        "destination_type": kind,
        "routing_key": routing_key,
        "arguments": _plain(f"binding of {to}", arguments),
    }


def _plain(what: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(arguments), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{what}: its arguments cannot be written as JSON: {error}"
        ) from error
    return found
