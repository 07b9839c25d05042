"""Finds what differs between the declarations of services and what a broker has. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from mqkit.amqp.arguments import SINGLE_ACTIVE
from mqkit.broker.moving import move_names
from mqkit.provisioning.live import Live, LiveBinding, LiveExchange, LiveQueue
from mqkit.provisioning.plan import Change, Kind
from mqkit.provisioning.wanted import Wanted
from mqkit.topology import Binding, Exchange, Queue


def compare(wanted: Wanted, live: Live) -> tuple[Change, ...]:
    """List what differs: exchanges, then queues, then bindings, then what policies break."""
    return (
        *_exchanges(wanted, live),
        *_queues(wanted, live),
        *_partitions(wanted, live),
        *_bindings(wanted, live),
        *(
            Change(Kind.DRIFT, "policy", name, detail)
            for name, detail in (_split(each) for each in live.problems)
        ),
    )


def _split(problem: str) -> tuple[str, str]:
    """Split 'queue NAME: policy ...' into the name and the rest."""
    name, _, detail = problem.partition(": ")
    return name.removeprefix("queue "), detail


def _exchanges(wanted: Wanted, live: Live) -> Iterator[Change]:
    for each in wanted.topology.exchanges:
        there = live.exchanges.get(each.name)
        if there is None:
            if each.declare:
                yield Change(Kind.CREATE, "exchange", each.name, each.type)
            else:
                yield Change(
                    Kind.DRIFT,
                    "exchange",
                    each.name,
                    "it is not on the broker, and is declared by somebody else",
                )
        elif each.declare and (detail := exchange_difference(each, there)):
            yield Change(
                Kind.DRIFT,
                "exchange",
                each.name,
                detail,
                "an exchange cannot be changed: give it another name, or delete it",
            )


def _queues(wanted: Wanted, live: Live) -> Iterator[Change]:
    for each in wanted.topology.queues:
        there = live.queues.get(each.name)
        if move_names(each.name).held in live.queues:
            counts = live.queues[move_names(each.name).held]
            yield Change(
                Kind.CHANGE,
                "queue",
                each.name,
                "a move of its messages was begun, and has not ended",
                "messages that are published wait until it has",
                counts.messages,
            )
        elif there is None:
            if each.declare:
                yield Change(Kind.CREATE, "queue", each.name, _kind_of(each))
            else:
                yield Change(
                    Kind.DRIFT,
                    "queue",
                    each.name,
                    "it is not on the broker, and is declared by somebody else",
                )
        elif each.declare and (detail := queue_difference(each, there)):
            yield _change(each, there, detail)


def _change(queue: Queue, there: LiveQueue, detail: str) -> Change:
    counts = {"messages": there.messages, "consumers": there.consumers}
    if there.exclusive or there.auto_delete:
        risk = "it goes with its consumers: stop them"
        return Change(Kind.DRIFT, "queue", queue.name, detail, risk, **counts)
    if _is_stream(there):
        risk = "a stream keeps what is read, and cannot be moved: take another name, or delete it"
        return Change(Kind.DRIFT, "queue", queue.name, detail, risk, **counts)
    risk = "its messages are moved"
    return Change(Kind.CHANGE, "queue", queue.name, detail, risk, **counts)


def _is_stream(there: LiveQueue) -> bool:
    """Tell whether a queue is a stream.

    By AMQP alone that is seen by the first argument that is not as declared, which it names.
    """
    if there.difference is not None:
        return _OF_STREAM.match(there.difference) is not None
    return "stream" in (there.kind, there.arguments.get("x-queue-type"))


_OF_STREAM = re.compile(
    r"x-queue-type is stream |x-max-age is (?!not set)|x-stream-\S+ is (?!not set)"
)
"""How a difference begins that only a stream has (https://www.rabbitmq.com/docs/streams)."""


def _kind_of(queue: Queue) -> str:
    words: list[str] = [queue.type]
    if not queue.durable:
        words.append("transient")
    if queue.is_single:
        words.append("single active consumer")
    if queue.keeps_dead_letters:
        words.append("for dead letters")
    return ", ".join(words)


def _partitions(wanted: Wanted, live: Live) -> Iterator[Change]:
    """List partitions that are there and not declared any more, and a number that changes."""
    for handler in wanted.handlers:
        queue = handler.queue
        there = live_partitions(queue.name, live)
        if not there or queue.name not in live.queues:
            continue
        declared = {each.name for each in queue.partition_queues()}
        old = {each.name for each in there}
        if old == declared:
            continue
        extra = [each for each in there if each.name not in declared]
        messages = sum(each.messages for each in there)
        waiting = messages + live.queues[queue.name].messages
        if not declared <= old or any(each.messages or each.consumers for each in extra):
            yield Change(
                Kind.CHANGE,
                "partitions",
                queue.name,
                f"{len(there)} on the broker, {len(declared) or 1} here",
                "keys change their partitions: what waits is handled before what comes after it",
                waiting,
                live.queues[queue.name].consumers,
            )
        for each in extra:
            yield Change(
                Kind.UNUSED,
                "queue",
                each.name,
                f"a partition that {queue.name} has no more",
                "",
                each.messages,
                each.consumers,
            )


def live_partitions(queue: str, live: Live) -> list[LiveQueue]:
    """Return the partitions of a queue that the broker has, in the order of their numbers."""
    pattern = re.compile(rf"{re.escape(queue)}\.(\d+)")
    found = []
    for name, each in live.queues.items():
        match = pattern.fullmatch(name)
        if match and (each.arguments.get(SINGLE_ACTIVE) or each.difference is not None):
            found.append((int(match[1]), each))
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def _bindings(wanted: Wanted, live: Live) -> Iterator[Change]:
    there = {_live_key(each) for each in live.bindings or ()}
    moving = {q.name for q in wanted.topology.queues if move_names(q.name).held in live.queues}
    for each in wanted.topology.bindings:
        missing = each.queue not in live.queues or each.source.exchange.name not in live.exchanges
        if each.queue in moving:
            continue
        if missing or (live.bindings is not None and _key(each) not in there):
            yield Change(Kind.CREATE, "binding", each.queue, _shown(*_key(each)[1:3]))
    for found in unused_bindings(wanted, live):
        where = _shown(found.exchange, found.routing_key)
        yield Change(Kind.UNUSED, "binding", found.queue, where, "messages still come by it")


def unused_bindings(wanted: Wanted, live: Live) -> list[LiveBinding]:
    """Return the bindings of handlers' queues that nobody declares."""
    declared = {_key(each) for each in wanted.topology.bindings}
    handled = {each.queue.name for each in wanted.handlers if each.queue.declare}
    return [
        each
        for each in live.bindings or ()
        if each.queue in handled and _live_key(each) not in declared
    ]


def unused_partitions(wanted: Wanted, live: Live) -> list[LiveQueue]:
    """Return the partitions of handlers' queues that nobody declares."""
    declared = {each.name for each in wanted.topology.queues}
    return [
        each
        for handler in wanted.handlers
        for each in live_partitions(handler.queue.name, live)
        if each.name not in declared
    ]


Key = tuple[str, str, str, str]


def _key(binding: Binding) -> Key:
    source = binding.source
    return (
        binding.queue,
        source.exchange.name,
        source.routing_key,
        repr(sorted(_plain(source.arguments).items())),
    )


def _live_key(binding: LiveBinding) -> Key:
    arguments = repr(sorted(_plain(binding.arguments).items()))
    return (binding.queue, binding.exchange, binding.routing_key, arguments)


def _shown(exchange: str, routing_key: str) -> str:
    return f"to exchange {exchange} with key {routing_key!r}"


def exchange_difference(wanted: Exchange, there: LiveExchange) -> str:
    """Say how an exchange on the broker is not as declared; '' where it is."""
    if there.difference is not None:
        return there.difference
    fields = ("type", "durable", "auto_delete", "internal")
    pairs = {name: (getattr(there, name), getattr(wanted, name)) for name in fields}
    return _differences(pairs, there.arguments, wanted.arguments)


def queue_difference(wanted: Queue, there: LiveQueue) -> str:
    """Say how a queue on the broker is not as declared; '' where it is."""
    if there.difference is not None:
        return there.difference
    fields = ("durable", "exclusive", "auto_delete")
    pairs = {name: (getattr(there, name), getattr(wanted, name)) for name in fields}
    arguments = dict(there.arguments)
    arguments.setdefault("x-queue-type", there.kind or "classic")
    return _differences(pairs, arguments, wanted.declared_arguments())


def _differences(
    pairs: Mapping[str, tuple[object, object]],
    there: Mapping[str, Any],
    here: Mapping[str, Any],
) -> str:
    found = [
        f"{name} is {_value(a)} on the broker, {_value(b)} here"
        for name, (a, b) in pairs.items()
        if a != b
    ]
    a, b = _plain(there), _plain(here)
    found += [
        f"{name} is {_value(a.get(name, _NONE))} on the broker, {_value(b.get(name, _NONE))} here"
        for name in sorted({*a, *b})
        if a.get(name, _NONE) != b.get(name, _NONE)
    ]
    return "; ".join(found)


_NONE = object()


def _value(value: object) -> str:
    if value is _NONE:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or "''"


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as the management API shows them, so that both can be compared."""
    return {name: _plain_value(value) for name, value in arguments.items()}


def _plain_value(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode(errors="replace")
        case datetime():
            return int(value.timestamp())
        case Decimal():
            return float(value)
        case Mapping():
            return _plain(value)
        case list() | tuple():
            return [_plain_value(each) for each in value]
    return value
