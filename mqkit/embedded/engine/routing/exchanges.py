"""Exchanges: their types, their bindings, and where they send a message."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mqkit.embedded.engine.message import Message
from mqkit.embedded.engine.routing.bindings import Binding, Bindings, Destination, Index, words
from mqkit.embedded.engine.routing.header_index import HeaderIndex
from mqkit.embedded.engine.routing.matching import HEADER_MATCHES
from mqkit.embedded.engine.routing.topics import Topics
from mqkit.embedded.errors import ReplyError, precondition_failed
from mqkit.embedded.wire.frames import type_name

DEFAULT = ""
"""The exchange that routes to the queue of the routing key's name, and is bound to nothing."""

LOCAL_RANDOM, MODULUS_HASH = "x-local-random", "x-modulus-hash"

TYPES = ("direct", "fanout", "topic", "headers", LOCAL_RANDOM, MODULUS_HASH)
"""Those that RabbitMQ 4.3 has without a plugin."""

PREDECLARED = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
"""What every virtual host has from the start (AMQP 0-9-1, section 3.1.3.1 and RabbitMQ's own)."""

RESERVED_PREFIX = "amq."


@dataclass(slots=True, eq=False)
class Exchange:
    """One exchange of one virtual host."""

    name: str
    type: str
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    bindings: Bindings = field(init=False)
    _topics: Topics = field(init=False, default_factory=Topics)
    _headers: HeaderIndex = field(init=False, default_factory=HeaderIndex)

    def __post_init__(self) -> None:
        indexes: dict[str, Index] = {"topic": self._topics, "headers": self._headers}
        self.bindings = Bindings(indexes.get(self.type))

    @property
    def alternate(self) -> str | None:
        """The exchange for what this one cannot route."""
        return self.arguments.get("alternate-exchange")

    def destinations(self, message: Message) -> Iterator[Destination]:
        """Return where its bindings lead this message; one destination may come twice."""
        if self.type == "fanout":
            yield from (binding.destination for binding in self.bindings)
        elif self.type == "headers":
            for binding in self._headers.matching(message.headers):
                yield binding.destination
        elif self.type == "direct":
            for key in message.routing_keys:
                yield from (binding.destination for binding in self.bindings.with_key(key))
        elif self.type == "topic":
            for key in message.routing_keys:
                for binding in self._topics.matching(words(key)):
                    yield binding.destination
        elif self.bindings:
            yield self._one_of_them(message)

    def _one_of_them(self, message: Message) -> Destination:
        """Choose one binding, at random or by the routing keys, and return where it leads.

        Which of them a key goes to is always the same, and not the same as with RabbitMQ, whose
        hash is Erlang's.
        """
        found = [binding.destination for binding in self.bindings]
        if self.type == LOCAL_RANDOM:
            return random.choice(found)
        found.sort(key=lambda to: (to.kind, to.name))
        keys = "\0".join(message.routing_keys).encode("utf-8", "surrogateescape")
        return found[zlib.crc32(keys) % len(found)]

    def bind(self, destination: Destination, routing_key: str, arguments: dict[str, Any]) -> bool:
        """Add a binding; False if there was the same one.

        :raises ReplyError: 406, the arguments are no header exchange's
        """
        if self.type == "headers":
            _check_header_match(arguments)
        if self.type == LOCAL_RANDOM and routing_key:
            raise precondition_failed(f"Non empty binding '{routing_key}' key not permitted")
        if self.bindings.find(destination, routing_key, arguments) is not None:
            return False
        self.bindings.add(Binding(destination, routing_key, arguments))
        return True


def _check_header_match(arguments: Mapping[str, Any]) -> None:
    how = arguments.get("x-match", "all")
    if not isinstance(how, str):
        raise precondition_failed(
            f"Invalid x-match field type {type_name(how)} (value {how}); expected longstr"
        )
    if how not in HEADER_MATCHES:
        raise precondition_failed(
            f'Invalid x-match field value <<"{how}">>; expected all, any, all-with-x, or any-with-x'
        )


def checked_type(name: str) -> str:
    """Return the exchange type, if this broker has it.

    :raises ReplyError: 406, as RabbitMQ says of a plugin's type without the plugin
    """
    if name in TYPES:
        return name
    raise precondition_failed(f"unknown exchange type '{name}'")


def check_equivalent(
    exchange: Exchange,
    vhost: str,
    *,
    type_: str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Mapping[str, Any],
) -> None:
    """Refuse the declaration of an exchange that is there as another one.

    :raises ReplyError: 406, naming the first difference
    """
    asked: Sequence[tuple[str, Any, Any]] = (
        ("type", type_, exchange.type),
        ("durable", durable, exchange.durable),
        ("auto_delete", auto_delete, exchange.auto_delete),
        ("internal", internal, exchange.internal),
        (
            "alternate-exchange",
            arguments.get("alternate-exchange"),
            exchange.arguments.get("alternate-exchange"),
        ),
    )
    for what, received, current in asked:
        if received != current:
            raise inequivalent(what, f"exchange '{exchange.name}'", vhost, received, current)


def inequivalent(what: str, whose: str, vhost: str, received: Any, current: Any) -> ReplyError:
    """Make the 406 for a declaration that differs from what is there, in RabbitMQ's words."""
    if received is None or current is None:
        said = _described(received), _described(current)
    else:
        said = f"'{_plain(received)}'", f"'{_plain(current)}'"
    return precondition_failed(
        f"inequivalent arg '{what}' for {whose} in vhost '{vhost}': "
        f"received {said[0]} but current is {said[1]}"
    )


def _described(value: Any) -> str:
    return "none" if value is None else f"the value '{_plain(value)}' of type '{type_name(value)}'"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
