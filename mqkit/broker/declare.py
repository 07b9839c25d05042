"""Declares a topology on a live broker, and explains what the broker refuses."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from mqkit.broker.moving import held_queues
from mqkit.drivers.base import DriverChannel, OpenChannel, QueueState
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.topology import Binding, Exchange, Queue, Topology

NOT_FOUND = 404
ACCESS_REFUSED = 403
CONNECTION_FORCED = 320
RESOURCE_LOCKED = 405

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for (?:queue|exchange) '.*' in vhost '.*': "
    r"received (?P<here>.+) but current is (?P<there>.+)$",
    re.DOTALL,
)
_TYPED = re.compile(r"^the value '(?P<value>.*)' of type '[^']+'$", re.DOTALL)


TRIES = 3
"""How many times a topology is declared, if a part of it is deleted before it is bound."""


async def declare(open_channel: OpenChannel, topology: Topology) -> None:
    """Declare a topology; what is there already and alike is left as it is.

    Everything is tried, so that one error names all that the broker refused. What this user may not
    configure, and is there, is taken as it is. A queue that is being moved is not bound. What
    somebody deletes before it is bound is declared again.

    :raises TopologyError: the broker refused something
    :raises ChannelClosedError: the connection was lost meanwhile
    """
    bound = {item.queue for item in topology.bindings}
    held = await held_queues(open_channel, bound) if bound else frozenset[str]()
    refusals, gone = await _declare(open_channel, topology, held)
    for _ in range(1, TRIES):
        if refusals or not gone:
            break
        refusals, gone = await _declare(open_channel, topology, held)
    if problems := [*refusals, *gone]:
        raise TopologyError("; ".join(problems))


async def _declare(
    open_channel: OpenChannel, topology: Topology, held: Collection[str]
) -> tuple[list[str], list[str]]:
    """Declare all once; return what the broker refused, and bindings of what is not there."""
    problems, gone = list[str](), list[str]()
    # To what is not as it is wanted nothing is to come, either.
    refused = {f"queue {name}" for name in held}
    channel: DriverChannel | None = None
    try:
        for what, needs, step, look in _steps(topology):
            if needs in refused:
                continue
            if channel is None or not channel.is_open:
                channel = await open_channel()
            try:
                await step(channel)
            except ChannelClosedError as error:
                if error.code in (0, CONNECTION_FORCED):
                    raise
                if look is None or error.code != ACCESS_REFUSED:
                    is_gone = look is None and error.code == NOT_FOUND
                    (gone if is_gone else problems).append(explain(what, error.code, error.text))
                    refused.add(what)
                    continue
                channel = await open_channel()
                if not await _is_there(channel, look):
                    problems.append(explain(what, error.code, error.text))
    finally:
        if channel is not None and channel.is_open:
            await channel.close()
    return problems, gone


Step = Callable[[DriverChannel], Awaitable[Any]]


async def _is_there(channel: DriverChannel, look: Step) -> bool:
    """Return whether it is declared already, by a user who has the permission to."""
    try:
        await look(channel)
    except ChannelClosedError as error:
        if not error.code:
            raise
        return False
    return True


def _steps(topology: Topology) -> list[tuple[str, str, Step, Step | None]]:
    """List the steps: a name, which one it needs, what to do, and how to look if it was done."""
    return [
        *(
            (f"exchange {item.name}", "", _exchange(item), _exchange(replace(item, declare=False)))
            for item in topology.exchanges
        ),
        *((f"queue {item.name}", "", _queue(item), _find(item.name)) for item in topology.queues),
        *(
            (
                f"binding of queue {item.queue} to exchange {item.source.exchange.name}",
                f"queue {item.queue}",
                _bind(item),
                None,
            )
            for item in topology.bindings
        ),
    ]


async def declare_exchange(channel: DriverChannel, exchange: Exchange) -> None:
    """Declare an exchange; with `declare=False`, only check that it exists.

    :raises ChannelClosedError: the broker refused it, or the connection was lost
    """
    await channel.declare_exchange(
        exchange.name,
        exchange.type,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        internal=exchange.internal,
        arguments=exchange.arguments,
        passive=not exchange.declare,
    )


def _exchange(exchange: Exchange) -> Step:
    return lambda channel: declare_exchange(channel, exchange)


def _queue(queue: Queue) -> Step:
    return lambda channel: channel.declare_queue(
        queue.name,
        durable=queue.durable,
        exclusive=queue.exclusive,
        auto_delete=queue.auto_delete,
        arguments=queue.declared_arguments(),
        passive=not queue.declare,
    )


def _find(queue: str) -> Step:
    return lambda channel: channel.declare_queue(queue, passive=True)


def _bind(binding: Binding) -> Step:
    source = binding.source
    return lambda channel: channel.bind_queue(
        binding.queue, source.exchange.name, source.routing_key, source.arguments
    )


def explain(what: str, code: int, text: str) -> str:
    """Put a refusal in plain words: 'queue X: durable is false on the broker, true here'."""
    difference = _INEQUIVALENT.search(text)
    if difference:
        there, here = _plain(difference["there"]), _plain(difference["here"])
        return (
            f"{what}: {difference['name']} is {there} on the broker, {here} here; "
            "declare it alike, or delete the one on the broker"
            + (" once it is empty" if what.startswith("queue") else "")
        )
    if code == NOT_FOUND:
        return f"{what}: it does not exist on the broker, and is not declared here ({text})"
    if code == ACCESS_REFUSED:
        return f"{what}: this user has no permission ({text})"
    if code == RESOURCE_LOCKED:
        return f"{what}: another connection holds it exclusively ({text})"
    return f"{what}: {text} ({code})"


def _plain(value: str) -> str:
    typed = _TYPED.match(value)
    text = typed["value"] if typed else value.strip("'")
    return "not set" if text in ("none", "undefined") else text or "''"


async def queue_state(channel: DriverChannel, name: str) -> QueueState:
    """Return a queue's ready messages and consumers, by a channel that is closed then.

    :raises TopologyError: there is no such queue, or this user may not see it
    :raises ChannelClosedError: the connection was lost meanwhile
    """
    try:
        state = await channel.declare_queue(name, passive=True)
    except ChannelClosedError as error:
        if not error.code:
            raise
        raise TopologyError(f"queue {name}: {error.text}") from error
    await channel.close()
    return state
