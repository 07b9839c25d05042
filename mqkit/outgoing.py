"""What an application asks to be published, and the checked message made from it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mqkit.codec import encode
from mqkit.errors import InvalidMessageError
from mqkit.frozen import maker
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.message import RESERVED_PREFIX, HeaderValue, Message, Properties
from mqkit.names import MAX_NAME
from mqkit.topology import Exchange

_message, _properties = maker(Message), maker(Properties)


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


def to_message(
    outgoing: Outgoing,
    app_id: str | None,
    now: datetime | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    new_id: Callable[[], object] = uuid.uuid4,
) -> Message:
    """The message to write; `new_id` gives it an id where it has none.

    :raises InvalidMessageError: the body, a header or a property cannot be sent, or is over the
        limits; it names which
    """
    exchange = outgoing.exchange
    exchange_name = exchange.name if isinstance(exchange, Exchange) else exchange
    for problem in _problems(outgoing, exchange_name, limits):
        raise _invalid(outgoing, exchange_name, problem)
    try:
        body, content_type = encode(outgoing.body, outgoing.content_type, limits)
    except InvalidMessageError as error:
        raise _invalid(outgoing, exchange_name, str(error)) from error
    # Without the fields' names, which would double what making these takes.
    properties = _properties(
        content_type,
        None,
        dict(outgoing.headers),
        outgoing.persistent,
        outgoing.priority,
        outgoing.correlation_id,
        outgoing.reply_to,
        outgoing.expiration,
        outgoing.message_id or str(new_id()),
        now or datetime.now(UTC),
        outgoing.type,
        None,
        app_id,
    )
    return _message(exchange_name, outgoing.routing_key, body, properties, outgoing.mandatory)


def _invalid(outgoing: Outgoing, exchange: str, problem: str) -> InvalidMessageError:
    return InvalidMessageError(
        f"message {_cut(outgoing.message_id)} to exchange {_cut(exchange)!r} with routing key "
        f"{_cut(outgoing.routing_key)!r}: {problem}"
    )


def _cut(name: object) -> object:
    """A name for an error's text; the start of one that is too long to be a name."""
    if isinstance(name, str | bytes) and len(name) > MAX_NAME:
        return f"{name[:_SHOWN]!s}..."
    return name


def _problems(outgoing: Outgoing, exchange: object, limits: Limits) -> Iterator[str]:
    if not isinstance(exchange, str):
        yield f"the exchange is an Exchange or its name, not {exchange!r}"
    if problem := _text_problem("exchange", exchange):
        yield problem
    if problem := _text_problem("routing_key", outgoing.routing_key):
        yield problem
    for name in _SHORT_TEXTS:
        value = getattr(outgoing, name)
        if value is not None and (problem := _text_problem(name, value)):
            yield problem
    if outgoing.headers:
        if problem := limits.headers_problem(outgoing.headers):
            yield problem
        yield from _header_problems(outgoing.headers)
    if outgoing.expiration is not None and not 0 <= outgoing.expiration <= MAX_EXPIRATION:
        yield f"expiration is seconds from 0 to {MAX_EXPIRATION}, not {outgoing.expiration!r}"
    if outgoing.priority is not None and not 0 <= outgoing.priority <= MAX_PRIORITY:
        yield f"priority is 0 to {MAX_PRIORITY}, not {outgoing.priority!r}"


def _text_problem(name: str, value: object) -> str | None:
    if not isinstance(value, str):
        return f"{name} is text, not {type(value).__name__}"
    if value.isascii() and len(value) <= MAX_NAME:
        return None
    if len(value.encode(errors="replace")) > MAX_NAME:
        return f"{name} is over {MAX_NAME} bytes long"
    if not value.isprintable() and value != value.encode(errors="ignore").decode():
        return f"{name} has a character that UTF-8 cannot write"
    return None


def _header_problems(headers: Mapping[str, HeaderValue]) -> Iterator[str]:
    for name in headers:
        if not isinstance(name, str) or not name or len(name.encode()) > MAX_NAME:
            yield f"a header's name is text of 1 to {MAX_NAME} bytes, not {_cut(name)!r}"
        elif name.startswith(RESERVED_PREFIX):
            yield f"header {_cut(name)!r}: names under {RESERVED_PREFIX!r} are mqkit's own"


_SHOWN = 40
"""Characters shown of what is too long."""

_SHORT_TEXTS = (
    "message_id",
    "correlation_id",
    "reply_to",
    "type",
    "content_type",
)
"""Fields sent as short strings: 255 bytes at most (AMQP 0-9-1, section 4.2.5.3)."""

MAX_EXPIRATION = 4_294_967
"""Seconds: RabbitMQ takes at most 2^32 - 1 milliseconds (https://www.rabbitmq.com/docs/ttl)."""

MAX_PRIORITY = 255
"""The property is one octet (AMQP 0-9-1, section 1.8)."""
