"""Collects what services receive and send, from what was registered with them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mqkit.registration.body_fields import members
from mqkit.registration.handler import Handler
from mqkit.registration.service import Service
from mqkit.sagas.declared import DECLARED, Declared, Kind
from mqkit.topology import Exchange, Queue, Source

Mode = Literal["validation", "serialization"]
"""Whether a type is read or written: what pydantic takes and what it makes may differ."""


@dataclass(frozen=True, slots=True)
class Body:
    """The type of a message's body; None where nothing is known of it."""

    type: Any
    name: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Receives:
    """A handler, and what it takes from its queue."""

    service: str
    handler: Handler
    queue: Queue
    sources: tuple[Source, ...]
    bodies: tuple[Body, ...]
    replies: tuple[Body, ...]
    about: str
    publishes: tuple[str, ...]
    """What it says that it publishes, by name."""


@dataclass(slots=True)
class Sends:
    """Holds what a service publishes to an exchange; a key of None is not stated in the code."""

    service: str
    exchange: Exchange
    key: str | None
    bodies: list[Body] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Facts:
    """What several services receive and send."""

    receives: tuple[Receives, ...]
    sends: tuple[Sends, ...]


def facts(services: Sequence[Service]) -> Facts:
    """Collect what services receive and send.

    What a saga's method says it publishes has a type and no route, unless the service says so. It
    is put where a handler of these takes that type alone from, by one binding, on an exchange that
    the saga's service publishes to; else on the only exchange that there is for it; else it stands
    with its handler by name. The messages that
    a saga sends to itself, for timeouts and compensations, are nobody else's concern.
    """
    receives = [
        _receives(service.name, each)
        for service in services
        for each in service.handlers
        if not _is_of_its_own(each)
    ]
    sends = [each for service in services for each in _sends(service, receives)]
    return Facts(tuple(receives), tuple(sends))


def _receives(service: str, handler: Handler) -> Receives:
    declared = _declared(handler)
    told = () if declared is None else declared.published_names
    return Receives(
        service,
        handler,
        handler.queue,
        handler.sources,
        tuple(_bodies(handler.plan.body_type, "validation")),
        () if declared is not None else tuple(_replies(handler)),
        inspect.getdoc(handler.function) or "",
        told,
    )


def _declared(handler: Handler) -> Declared | None:
    method = getattr(handler.function, "__wrapped__", None)
    declared = getattr(method, DECLARED, None)
    return declared if isinstance(declared, Declared) else None


def _is_of_its_own(handler: Handler) -> bool:
    declared = _declared(handler)
    return declared is not None and declared.kind in (Kind.TIMEOUT, Kind.COMPENSATES)


def _replies(handler: Handler) -> Iterator[Body]:
    """Yield what it returns; what a batch returns are results of messages, and no replies."""
    if handler.batch is not None:
        return
    returned = _hints(handler).get("return", None)
    if returned in (None, type(None), Any, typing.NoReturn, typing.Never, inspect.Signature.empty):
        return
    yield from _bodies(returned, "serialization")


def _hints(handler: Handler) -> dict[str, Any]:
    function = handler.function
    target = function if inspect.isroutine(function) else type(function).__call__
    return typing.get_type_hints(target, include_extras=True)


def _bodies(annotation: Any, mode: Mode) -> Iterator[Body]:
    """Yield a body for each type of a union."""
    if annotation is None:
        yield Body(None, "message", mode)
        return
    kinds = members(annotation)
    if len(kinds) == 1:  # with what it is annotated with
        yield Body(annotation, name_of(annotation), mode)
    else:
        yield from (Body(each, name_of(each), mode) for each in kinds if each is not type(None))


def name_of(kind: Any) -> str:
    """Return the name of a body's type, as a message is called: 'Order', 'Page[int]'."""
    if typing.get_origin(kind) is typing.Annotated:
        return name_of(typing.get_args(kind)[0])
    if isinstance(kind, type) and not typing.get_args(kind):
        return kind.__name__
    return getattr(kind, "__name__", None) or str(kind).replace("typing.", "")


def _sends(service: Service, receives: Sequence[Receives]) -> Iterable[Sends]:
    found: dict[tuple[str, str | None], Sends] = {}
    stated: set[str] = set()

    def at(exchange: Exchange, key: str | None) -> list[Body]:
        new = Sends(service.name, exchange, key)
        return found.setdefault((exchange.name, key), new).bodies

    for sent in service.sent:
        bodies = [body for kind in sent.bodies for body in _bodies(kind, "serialization")]
        _add(at(sent.source.exchange, sent.source.routing_key), bodies)
        stated |= {body.name for body in bodies}
    exchanges = {each.name: each for each in service.published}
    told = {each.source.exchange.name for each in service.sent}
    silent = [each for name, each in exchanges.items() if name not in told]
    for handler in service.handlers:
        declared = _declared(handler)
        for kind in () if declared is None else declared.publishes:
            if isinstance(kind, type) and kind.__name__ not in stated:
                body = Body(kind, name_of(kind), "serialization")
                for exchange, key in _routes(body.name, exchanges, silent, receives):
                    _add(at(exchange, key), [body])
    for exchange in silent:
        if not any(name == exchange.name for name, _ in found):
            at(exchange, None)
    return found.values()


def _routes(
    name: str,
    exchanges: dict[str, Exchange],
    silent: Sequence[Exchange],
    receives: Sequence[Receives],
) -> list[tuple[Exchange, str | None]]:
    """Return the exchanges and keys that a message of this name goes to, where they are stated."""
    known: list[tuple[Exchange, str | None]] = [
        (exchanges[each.sources[0].exchange.name], each.sources[0].routing_key)
        for each in receives
        if [body.name for body in each.bodies] == [name]
        and len(each.sources) == 1
        and each.sources[0].exchange.name in exchanges
    ]
    if known:
        return known
    return [(silent[0], None)] if len(silent) == 1 else []


def _add(known: list[Body], more: Iterable[Body]) -> None:
    known += [body for body in more if body not in known]
