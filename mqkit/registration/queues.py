"""Checks of what a handler consumes: its queue, and what that is bound to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mqkit.checks import checked
from mqkit.errors import HandlerError
from mqkit.registration.handler import Handler
from mqkit.topology import (
    DEAD_SUFFIX,
    Exchange,
    Queue,
    Source,
    Topology,
    difference,
    handled_dead_letters,
)


def check_queue(queue: Queue, what: str, handlers: Mapping[str, Handler]) -> None:
    """Check that a handler can have this queue beside those that are registered.

    :raises HandlerError: it is no queue, cannot be handled, or has a handler
    """
    if not isinstance(queue, Queue):
        raise HandlerError(f"{what}: the first argument is a Queue, not {_no_queue(queue)}")
    if not queue.dead_letters:
        raise HandlerError(
            f"{what}: queue {queue.name!r} has dead_letters=False, and a message that fails "
            "would have nowhere to go"
        )
    other = handlers.get(queue.name)
    if other is None:
        return
    if other.queue != queue:
        raise HandlerError(
            f"{what}: queue {queue.name!r} is declared in another way by handler "
            f"{other.name}: {difference(other.queue, queue)}"
        )
    if what == f"handler {other.name}":
        raise HandlerError(
            f"{what}: it is registered for queue {queue.name!r} already; is its module run "
            "twice, as `python -m` runs one that others import?"
        )
    raise HandlerError(
        f"{what}: queue {queue.name!r} already has the handler {other.name}, and each would "
        "get only some of its messages; give each its own queue"
    )


def _no_queue(given: object) -> str:
    """Show what stands in the place of a queue, and say what to write if that can be guessed."""
    match given:
        case str():
            return f"{checked.shown(given)}; write Queue({checked.shown(given)})"
        case Exchange() | Source():
            return (
                f'{checked.shown(given)}; write Queue("..."), and bind=exchange.key(...) after it'
            )
        case type():
            return f'{checked.shown(given)}; write Queue("...")'
    return checked.shown(given)


def with_handler(
    handler: Handler, handlers: Mapping[str, Handler], topology: Topology, published: Topology
) -> tuple[dict[str, Handler], Topology]:
    """Return the handlers of a service, by their queues, and its topology, with one handler more.

    :param published: what the service publishes to
    :raises ConfigurationError: something is declared in two ways
    """
    handlers = {**handlers, handler.queue.name: handler}
    dead = handlers.get(handler.queue.dead_queue)
    alive = handlers.get(handler.queue.name.removesuffix(DEAD_SUFFIX))
    if dead is None and (alive is None or alive is handler):
        return handlers, topology.merge(handler.topology())
    for letters, of in ((dead, handler), (handler, alive)):
        if letters is not None and of is not None and letters is not of:
            queue = handled_dead_letters(letters.queue, of.queue)
            handlers[queue.name] = replace(handlers[queue.name], queue=queue)
    topology = published
    for each in handlers.values():
        topology = topology.merge(each.topology())
    return handlers, topology


def checked_sources(bind: Source | Iterable[Source], what: str) -> tuple[Source, ...]:
    """Check what a queue is bound to, one source or many, and return it as a tuple.

    :raises HandlerError: it is something else
    """
    if isinstance(bind, Source):
        return (bind,)
    sources: list[Source] = []
    several = isinstance(bind, Iterable) and not isinstance(bind, str | bytes | Mapping)
    for each in bind if several else [bind]:
        if not isinstance(each, Source):
            raise HandlerError(
                f"{what}: bind takes exchange.key(...), one or a list of them{_instead(each)}"
            )
        sources.append(each)
    return tuple(sources)


def _instead(bound: object) -> str:
    """Say what to write in the place of something that a queue cannot be bound to."""
    match bound:
        case Exchange(name=name, type="fanout" | "headers"):
            return f", not an Exchange by itself: say exchange.key() of exchange {name!r}"
        case Exchange(name=name):
            return (
                ", not an Exchange by itself: say which routing keys of exchange "
                f"{name!r}, as in exchange.key('order.*')"
            )
        case str():
            return (
                f", not text: {checked.shown(bound)} is a routing key of which exchange? Say "
                f"Exchange(...).key({checked.shown(bound)})"
            )
        case None:
            return ", not None; leave it out where nothing is bound"
    return f", not {checked.shown(bound)}"
