"""Names spans and their attributes, by OpenTelemetry's conventions for messaging. Pure.

There are two sets of names. The old one (semantic conventions 1.24.0) is the default, as the
conventions ask of instrumentations until they are stable; `OTEL_SEMCONV_STABILITY_OPT_IN` chooses:
with `messaging` the new one (1.45.0), with `messaging/dup` both
(https://opentelemetry.io/docs/specs/semconv/messaging/).

A span is named after an exchange or a queue, and never after a routing key: the conventions leave
out of a name what has many values, and a routing key may hold an account.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from opentelemetry.trace import SpanKind

from mqkit.message import Delivery, Message

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"

KEPT = 512
"""Sets of attributes that are kept for the next message to the same place."""

MAX_TEXT = 255
"""Characters of a message's text that an attribute has; AMQP's short strings have as many bytes."""

Value = str | int | float | bool
Attributes = dict[str, Value]


class Operation(StrEnum):
    """What a span is about; the values are the new conventions' types of operations."""

    CREATE = "create"
    SEND = "send"
    RECEIVE = "receive"
    PROCESS = "process"
    SETTLE = "settle"


_OLD_NAMES = {Operation.SEND: "publish"}
"""Where the old conventions call an operation otherwise."""

_OLD_KINDS = {
    Operation.CREATE: SpanKind.PRODUCER,
    Operation.SEND: SpanKind.PRODUCER,
    Operation.RECEIVE: SpanKind.CONSUMER,
    Operation.PROCESS: SpanKind.CONSUMER,
    Operation.SETTLE: SpanKind.INTERNAL,
}

_NEW_KINDS = _OLD_KINDS | {Operation.RECEIVE: SpanKind.CLIENT, Operation.SETTLE: SpanKind.CLIENT}


class Way(NamedTuple):
    """What the spans of all deliveries share that took the same way to the same handler."""

    process_name: str
    process_kind: SpanKind
    process: Attributes
    receive_name: str
    receive_kind: SpanKind
    receive: Attributes


class Conventions:
    """Knows how spans are named, of which kind they are, and which attributes they have."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Choose the sets of names by the environment.

        :param environment: where `OTEL_SEMCONV_STABILITY_OPT_IN` is looked for, a list with commas
        """
        chosen = {each.strip() for each in environment.get(OPT_IN, "").split(",")}
        both = "messaging/dup" in chosen  # it counts where both values are there
        self.is_new = both or "messaging" in chosen
        self.is_old = both or not self.is_new
        # Of one set at least; made once for all messages that take the same way.
        self.of_publish = functools.lru_cache(KEPT)(self._of_publish)
        self.of_delivery = functools.lru_cache(KEPT)(self._of_delivery)
        self.way = functools.lru_cache(KEPT)(self._way)

    def name(self, operation: Operation, destination: str) -> str:
        """Return the name of a span; `destination` is an exchange or a queue."""
        if self.is_new:
            return f"{operation} {destination}"
        return f"{destination} {_OLD_NAMES.get(operation, operation)}"

    def kind(self, operation: Operation, *, is_created: bool = True) -> SpanKind:
        """Return the kind of a span.

        :param is_created: False for a message that had a context before it was sent
        """
        if operation is Operation.SEND and not is_created:
            return SpanKind.CLIENT
        return (_NEW_KINDS if self.is_new else _OLD_KINDS)[operation]

    def _of_publish(self, operation: Operation, exchange: str, routing_key: str) -> Attributes:
        """Return the attributes of a publish that all messages on the same way have."""
        return self._of(operation, exchange, routing_key, _joined(exchange, routing_key))

    def _of_delivery(
        self, operation: Operation, handler: str, queue: str, exchange: str, routing_key: str
    ) -> Attributes:
        """Return the attributes of a delivery that all messages on the same way have."""
        on_the_way = (exchange, routing_key, queue if queue != routing_key else "")
        attributes = self._of(operation, exchange, routing_key, _joined(*on_the_way))
        return attributes | {"mqkit.queue": _text(queue), "mqkit.handler": _text(handler)}

    def _way(self, handler: str, queue: str, exchange: str, routing_key: str) -> Way:
        """Return what spans of deliveries on this way have, whatever the message is."""
        process, receive = Operation.PROCESS, Operation.RECEIVE
        return Way(
            self.name(process, queue),
            self.kind(process),
            self._of_delivery(process, handler, queue, exchange, routing_key),
            self.name(receive, queue),
            self.kind(receive),
            self._of_delivery(receive, handler, queue, exchange, routing_key),
        )

    def of_batch(self, handler: str, queue: str, count: int) -> Attributes:
        """Return the attributes of a run for a batch of so many messages."""
        attributes = self._operation(Operation.PROCESS)
        attributes["messaging.destination.name"] = _text(queue)
        attributes["messaging.batch.message_count"] = count
        return attributes | {"mqkit.queue": _text(queue), "mqkit.handler": _text(handler)}

    def _of(
        self, operation: Operation, exchange: str, routing_key: str, destination: str
    ) -> Attributes:
        attributes = self._operation(operation)
        # The old conventions for RabbitMQ: the exchange; the new ones: all that leads to a queue.
        name = destination if self.is_new else exchange
        attributes["messaging.destination.name"] = _text(name)
        if routing_key:
            attributes["messaging.rabbitmq.destination.routing_key"] = _text(routing_key)
        return attributes

    def _operation(self, operation: Operation) -> Attributes:
        attributes: Attributes = {"messaging.system": "rabbitmq"}
        if self.is_old:
            attributes["messaging.operation"] = _OLD_NAMES.get(operation, operation.value)
        if self.is_new:
            attributes["messaging.operation.name"] = operation.value
            attributes["messaging.operation.type"] = operation.value
        return attributes


def of_message(message: Message) -> Attributes:
    """Return the attributes of one message that is published: no body, and none of its headers.

    Its correlation id is left out, too: who knows that of a request could answer it.
    """
    return _of_one(message.properties.message_id, message.body)


def of_received(delivery: Delivery) -> Attributes:
    """Return the attributes of one message that was received."""
    attributes = _of_one(delivery.properties.message_id, delivery.body)
    attributes["messaging.rabbitmq.message.delivery_tag"] = delivery.tag
    attributes["mqkit.attempt"] = delivery.attempt
    return attributes


def _of_one(message_id: str | None, body: bytes) -> Attributes:
    attributes: Attributes = {"messaging.message.body.size": len(body)}
    if message_id:
        attributes["messaging.message.id"] = _text(message_id)
    return attributes


def _joined(*names: str) -> str:
    return ":".join(name for name in names if name) or "amq.default"


def _text(text: str) -> str:
    """Return a text that every exporter can write: of no more than so many whole characters."""
    if len(text) <= MAX_TEXT and text.isascii():
        return text
    return text[:MAX_TEXT].encode(errors="backslashreplace").decode()
