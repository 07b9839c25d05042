"""What an application asks to be published, and the checked message made from it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mqkit.codec import encode
from mqkit.errors import InvalidMessageError
from mqkit.message import RESERVED_PREFIX, HeaderValue, Message, Properties
from mqkit.topology import MAX_NAME, Exchange


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish. `body` is bytes as they are, or anything pydantic writes as JSON.

    `message_id` is the message's stable identity; a random one is given where there is none.
    `expiration` is in seconds.
    """

    exchange: Exchange | str
    routing_key: str
    body: object
    message_id: str | None = None
    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    content_type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    type: str | None = None
    expiration: float | None = None
    priority: int | None = None
    persistent: bool = True
    mandatory: bool = True


def to_message(outgoing: Outgoing, app_id: str | None, now: datetime | None = None) -> Message:
    """The message to write.

    :raises InvalidMessageError: the body, a header or a property cannot be sent; it names which
    """
    exchange = outgoing.exchange
    exchange_name = exchange.name if isinstance(exchange, Exchange) else exchange
    problem = _problem(outgoing, exchange_name)
    if problem:
        raise InvalidMessageError(
            f"message {outgoing.message_id} to exchange {exchange_name!r} with routing key "
            f"{outgoing.routing_key!r}: {problem}"
        )
    body, content_type = encode(outgoing.body)
    return Message(
        exchange=exchange_name,
        routing_key=outgoing.routing_key,
        body=body,
        properties=Properties(
            content_type=outgoing.content_type or content_type,
            headers=dict(outgoing.headers),
            persistent=outgoing.persistent,
            priority=outgoing.priority,
            correlation_id=outgoing.correlation_id,
            reply_to=outgoing.reply_to,
            expiration=outgoing.expiration,
            message_id=outgoing.message_id or str(uuid.uuid4()),
            timestamp=now or datetime.now(UTC),
            type=outgoing.type,
            app_id=app_id,
        ),
        mandatory=outgoing.mandatory,
    )


def _problem(outgoing: Outgoing, exchange: object) -> str | None:
    if not isinstance(exchange, str):
        return f"the exchange is an Exchange or its name, not {exchange!r}"
    short = {
        "exchange": exchange,
        "routing_key": outgoing.routing_key,
        "message_id": outgoing.message_id,
        "correlation_id": outgoing.correlation_id,
        "reply_to": outgoing.reply_to,
        "type": outgoing.type,
        "content_type": outgoing.content_type,
    }
    for name, value in short.items():
        if value is None and name not in ("exchange", "routing_key"):
            continue
        if not isinstance(value, str):
            return f"{name} is text, not {type(value).__name__}"
        if len(value.encode(errors="replace")) > MAX_NAME:
            return f"{name} is over {MAX_NAME} bytes long"
    for header in outgoing.headers:
        if not isinstance(header, str) or not header or len(header.encode()) > MAX_NAME:
            return f"a header's name is text of 1 to {MAX_NAME} bytes, not {header!r}"
        if header.startswith(RESERVED_PREFIX):
            return f"header {header!r}: names under {RESERVED_PREFIX!r} are mqkit's own"
    if outgoing.expiration is not None and not 0 <= outgoing.expiration <= _MAX_EXPIRATION:
        return f"expiration is seconds from 0 to {_MAX_EXPIRATION}, not {outgoing.expiration!r}"
    if outgoing.priority is not None and not 0 <= outgoing.priority <= _MAX_PRIORITY:
        return f"priority is 0 to {_MAX_PRIORITY}, not {outgoing.priority!r}"
    return None


_MAX_EXPIRATION = 4_294_967
"""Seconds: RabbitMQ takes at most 2^32 - 1 milliseconds (https://www.rabbitmq.com/docs/ttl)."""

_MAX_PRIORITY = 255
