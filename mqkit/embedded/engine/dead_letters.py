"""The headers of a dead letter: `x-death` and its companions, computed without side effects.

https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mqkit.embedded.engine.message import Death, Entry, Message
from mqkit.embedded.engine.queue import REJECTED, Queue


def dead_letter(queue: Queue, entry: Entry, reason: str, wall: Callable[[], float]) -> Message:
    """Make the message that is published to the queue's dead letter exchange.

    Its expiration is taken out, so that it does not expire again where it goes.
    """
    message = entry.message
    properties = copy.copy(message.properties)
    death = Death(
        queue.name,
        reason,
        message.exchange,
        message.routing_keys,
        wall(),
        original_expiration=properties.expiration or None,
    )
    deaths = add(message.deaths, death)
    properties.expiration = None
    key = queue.options.dead_letter_routing_key
    headers = dict(message.headers)
    headers["x-death"] = [_table(death) for death in deaths]
    first = _first(deaths)
    for which, of in (("first", first), ("last", deaths[0])):
        headers.update(_summary(which, of))
    properties.headers = headers
    return Message(
        queue.options.dead_letter_exchange or "",
        message.routing_keys if key is None else (key,),
        properties,
        message.body,
        None,
        deaths,
        origin=message.unchanged,
    )


def add(deaths: tuple[Death, ...], death: Death) -> tuple[Death, ...]:
    """Put a death before the earlier ones; the same queue and reason are counted up instead."""
    before = [d for d in deaths if (d.queue, d.reason) == (death.queue, death.reason)]
    others = tuple(d for d in deaths if d not in before)
    if not before:
        return (death, *others)
    return (replace(before[0], count=before[0].count + 1), *others)


def is_cycle(message: Message, target: str) -> bool:
    """Return True if a message was in this queue before, and nobody rejected it on the way.

    Without a rejection nothing would ever end the circle, so RabbitMQ drops the message.
    """
    for death in message.deaths:
        if death.reason == REJECTED:
            return False
        if death.queue == target:
            return True
    return False


def _first(deaths: tuple[Death, ...]) -> Death:
    return min(reversed(deaths), key=lambda death: death.time)


def _summary(which: str, death: Death) -> dict[str, Any]:
    names = ("exchange", "queue", "reason")
    return {f"x-{which}-death-{name}": getattr(death, name) for name in names}


def _table(death: Death) -> dict[str, Any]:
    table: dict[str, Any] = {
        "count": death.count,
        "exchange": death.exchange,
        "queue": death.queue,
        "reason": death.reason,
        "routing-keys": list(death.routing_keys),
        "time": datetime.fromtimestamp(int(death.time), UTC),
    }
    if death.original_expiration is not None:
        table["original-expiration"] = death.original_expiration
    return table
