"""Follows a message's way from an exchange, over its bindings and other exchanges, to queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from mqkit.embedded.engine.message import Message
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.engine.routing.bindings import Destination
from mqkit.embedded.engine.routing.exchanges import DEFAULT, Exchange


def route(
    exchange: Exchange,
    message: Message,
    exchanges: Mapping[str, Exchange],
    queues: Mapping[str, Queue],
) -> list[Queue]:
    """Return the queues that a message goes to, each once, in the order of finding them.

    Exchanges may be bound in a circle; each is gone through once.
    """
    found: dict[str, Queue] = {}
    seen = {exchange.name}
    waiting = deque([exchange])
    while waiting:
        current = waiting.popleft()
        here: list[str] = []
        nexts: list[str] = []
        destinations: Iterable[Destination] = (
            [Destination("queue", key) for key in message.routing_keys]
            if current.name == DEFAULT
            else current.destinations(message)
        )
        for to in destinations:
            if to.kind == "exchange":
                nexts.append(to.name)
            elif to.name in queues:
                here.append(to.name)
        if not here and not nexts and current.alternate is not None:
            nexts = [current.alternate]
        found.update((name, queues[name]) for name in here)
        for name in nexts:
            if name in exchanges and name not in seen:
                seen.add(name)
                waiting.append(exchanges[name])
    return list(found.values())
