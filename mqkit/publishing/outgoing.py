"""Checks what an application asks to be published, and makes the message to write from it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, TypedDict

from mqkit.amqp.tables import table_problem
from mqkit.checks.checked import MAX_SHORT, Seconds, as_seconds, is_whole, shown, text_problem
from mqkit.clock import Clock, monotonic, utc_now
from mqkit.codec import encode
from mqkit.errors import InvalidMessageError
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.message import RESERVED_PREFIX, HeaderValue, Message, Properties, maker
from mqkit.outcome import MAX_DELAY
from mqkit.topology import Exchange, Queue, Source

_message, _properties = maker(Message), maker(Properties)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish. `body` is bytes as they are, or anything pydantic writes as JSON.

    `message_id` is the message's stable identity; a random one is given where it is None.
    `expiration` is in seconds, as a number or a timedelta, and is kept in milliseconds. A time in
    the headers is kept in seconds. `mandatory` is whether it is an error that no queue is bound for
    it; where it is None the `Exchange` says so, and of an exchange given by its name it is one.

    With `delay`, in seconds, or `at`, a datetime with a time zone, the broker holds the message and
    publishes it then: up to 310 days from now. What is due already is published at once. It cannot
    be called back.
    """

    exchange: Exchange | str
    routing_key: str
    body: object
    message_id: str | None = None
    headers: Mapping[str, HeaderValue] | None = field(default_factory=dict)
    content_type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    type: str | None = None
    expiration: Seconds | None = None
    priority: int | None = None
    persistent: bool = True
    mandatory: bool | None = None
    delay: Seconds | None = None
    at: datetime | None = None


class RequestOptions(TypedDict, total=False):
    """The options of `Publisher.request`; `timeout` is in seconds, from the call to the reply."""

    timeout: Seconds | None
    message_id: str | None
    headers: Mapping[str, HeaderValue] | None
    type: str | None
    expiration: Seconds | None
    priority: int | None
    persistent: bool


make_outgoing = maker(Outgoing)
"""Makes an `Outgoing` from its values in order, in a third of the time."""


def to_message(
    outgoing: Outgoing,
    app_id: str | None,
    now: datetime | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    new_id: Callable[[], object] = uuid.uuid4,
    clock: Clock = utc_now,
) -> Message:
    """Check what is to be published and make the message; `new_id` gives an id where none is given.

    :param clock: gives the message's timestamp, where `now` is None, and the begin of a `delay`
    :raises InvalidMessageError: the body, a header or a property cannot be sent, or is over the
        limits; it names which
    """
    exchange = outgoing.exchange
    mandatory = outgoing.mandatory
    if isinstance(exchange, Exchange):
        exchange_name = exchange.name
        if mandatory is None:
            mandatory = exchange.mandatory
    else:
        exchange_name = exchange
        if mandatory is None:
            mandatory = True
    if not _is_usual(outgoing, exchange_name):
        for problem in _problems(outgoing, exchange_name):
            raise _invalid(outgoing, exchange_name, problem)
    headers = _headers(outgoing, exchange_name, limits) if outgoing.headers else {}
    due = due_after = None
    if outgoing.delay is not None or outgoing.at is not None:
        due = _due(outgoing, exchange_name, clock(), mandatory=mandatory)
        if (seconds := as_seconds(outgoing.delay)) is not None:
            due_after = monotonic() + seconds
    body, content_type = _encoded(outgoing, exchange_name, limits)
    # Without the fields' names, which would double what making these takes.
    properties = _properties(
        content_type,
        None,
        headers,
        outgoing.persistent,
        outgoing.priority,
        outgoing.correlation_id,
        outgoing.reply_to,
        None if outgoing.expiration is None else _expiration(outgoing.expiration),
        outgoing.message_id or str(new_id()),
        now or clock(),
        outgoing.type,
        None,
        app_id,
    )
    return _message(
        exchange_name, outgoing.routing_key, body, properties, mandatory, due, due_after
    )


def destination(route: Source | Queue) -> tuple[Exchange | str, str]:
    """Return the exchange and the routing key that a request is published to.

    :raises InvalidMessageError: it is neither `Exchange.key(...)` nor a queue
    """
    if isinstance(route, Queue):
        return "", route.name
    if isinstance(route, Source):
        return route.exchange, route.routing_key
    raise InvalidMessageError(
        f"a request goes to Exchange.key(...) or to a Queue, not to {type(route).__name__}"
    )


class MessageIds:
    """Makes message ids: a random UUID of version 4 (RFC 9562, section 5.4) at each call.

    For one process: a fork would give the same ones again. Whoever has it has a connection to
    the broker, too, which does not live in two processes either.
    """

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._bits = b""
        self._used = 0

    def __call__(self) -> str:
        if self._used == len(self._bits):
            self._bits, self._used = self._random_bytes(16 * AT_A_TIME), 0
        start, self._used = self._used, self._used + 16
        # Written out: `str(uuid.UUID(bytes=..., version=4))` takes four times as long.
        digits = self._bits[start : self._used].hex()
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-"
            f"{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
        )


def _invalid(outgoing: Outgoing, exchange: object, problem: str) -> InvalidMessageError:
    message_id = _name(outgoing.message_id)
    if isinstance(outgoing.message_id, str):
        message_id = message_id[1:-1]
    return InvalidMessageError(
        f"message {message_id} to exchange {_name(exchange)} with routing key "
        f"{_name(outgoing.routing_key)}: {problem}"
    )


def _name(value: object) -> str:
    """Quote a name in an error's text; only its start, if it is too long to be a name."""
    if not isinstance(value, str):
        return shown(value)
    return repr(value if len(value) <= MAX_SHORT else f"{value[:_SHOWN]}...")


_rare = attrgetter(
    "message_id", "content_type", "correlation_id", "reply_to", "type", "expiration", "priority"
)
_NOT_GIVEN = (None,) * 7


def _is_usual(outgoing: Outgoing, exchange: object) -> bool:
    """Tell whether a glance shows that `_problems` finds none, as of most messages."""
    key: object = outgoing.routing_key
    mandatory = outgoing.mandatory
    return (
        _rare(outgoing) == _NOT_GIVEN
        and outgoing.persistent is True
        and (mandatory is None or mandatory is True or mandatory is False)
        and exchange.__class__ is str
        and _text_problem("", exchange) is None
        and _text_problem("", key) is None
    )


def _problems(  # noqa: C901 - one step a field, and no call that a message could do without
    outgoing: Outgoing, exchange: object
) -> Iterator[str]:
    """Find what is wrong with all but the headers and the body; the first one is raised."""
    if not isinstance(exchange, str):
        yield f"the exchange is an Exchange or its name, not {shown(exchange)}"
    elif problem := _text_problem("exchange", exchange):
        yield problem
    if problem := _text_problem("routing_key", outgoing.routing_key):
        yield problem
    for name in _SHORT_TEXTS:
        value = getattr(outgoing, name)
        if value is not None and (problem := _text_problem(name, value)):
            yield problem
    if outgoing.message_id == "":
        yield "message_id is empty; leave it out for one that mqkit makes"
    if outgoing.expiration is not None:
        seconds = as_seconds(outgoing.expiration)
        if seconds is None or not 0 <= seconds <= MAX_EXPIRATION:
            yield (
                f"expiration is seconds from 0 to {MAX_EXPIRATION}, as a number or a timedelta, "
                f"not {shown(outgoing.expiration)}"
            )
    if outgoing.priority is not None and not is_whole(outgoing.priority, 0, MAX_PRIORITY):
        yield (f"priority is 0 to {MAX_PRIORITY}, a whole number, not {shown(outgoing.priority)}")
    persistent: Any = outgoing.persistent
    if persistent is not True and persistent is not False:
        yield f"persistent is True or False, not {shown(persistent)}"
    mandatory: Any = outgoing.mandatory
    if mandatory is not None and mandatory is not True and mandatory is not False:
        yield f"mandatory is True or False, or None, not {shown(mandatory)}"


def _text_problem(name: str, value: object) -> str | None:
    if not isinstance(value, str):
        return f"{name} is text, not {shown(value)}"
    # Without a call for nearly all of them; every message has some.
    if value.isascii() and len(value) <= MAX_SHORT and "\0" not in value:
        return None
    problem = text_problem(value)
    return problem and f"{name} {problem}"


def _headers(outgoing: Outgoing, exchange: str, limits: Limits) -> dict[str, HeaderValue]:
    given: Any = outgoing.headers
    if type(given) is not dict and not isinstance(given, Mapping):
        raise _invalid(outgoing, exchange, f"headers is a dict, not a {type(given).__name__}")
    try:
        headers = dict(given)
        problem = limits.headers_problem(headers) or table_problem(headers, "header")
    except Exception as error:
        # A mapping of the application's own can raise whatever it likes.
        wrong = f"headers cannot be read: {type(error).__name__}"
        raise _invalid(outgoing, exchange, wrong) from error
    if problem is not None:
        raise _invalid(outgoing, exchange, problem)
    for name in _COPIES:
        if not isinstance(headers.get(name, []), list):
            wrong = f"header {name!r}: RabbitMQ takes a list of routing keys under that name"
            raise _invalid(outgoing, exchange, wrong)
    for name in headers:
        if name.startswith(RESERVED_PREFIX):
            wrong = f"header {shown(name)}: names under {RESERVED_PREFIX!r} are mqkit's own"
            raise _invalid(outgoing, exchange, wrong)
    return headers


def _encoded(outgoing: Outgoing, exchange: str, limits: Limits) -> tuple[bytes, str]:
    try:
        return encode(outgoing.body, outgoing.content_type, limits)
    except InvalidMessageError as error:
        raise _invalid(outgoing, exchange, str(error)) from error
    except Exception as error:
        # What a model's own serializer raises, which may quote the body.
        problem = (
            f"its body cannot be encoded: {type(outgoing.body).__name__}: {type(error).__name__}"
        )
        raise _invalid(outgoing, exchange, problem) from error


def _due(outgoing: Outgoing, exchange: str, now: datetime, *, mandatory: bool) -> datetime | None:
    """Check when a message is to be published, and return that; None is at once.

    :raises InvalidMessageError: it is no time, too far away, or what else is asked for cannot be
        kept until then
    """
    at, problem = outgoing.at, None
    seconds = None if outgoing.delay is None else as_seconds(outgoing.delay)
    if at is not None and outgoing.delay is not None:
        problem = "it has a delay and a time (at) to be published at; give one of them"
    elif at is not None:
        if not isinstance(at, datetime) or at.utcoffset() is None:
            problem = f"at is a datetime with a time zone, not {shown(at)}"
        else:
            seconds = (at - now).total_seconds()
            if seconds > MAX_DELAY:
                problem = f"at is within {MAX_DELAY:.1f} seconds (310 days), not {shown(at)}"
    elif seconds is None or not 0 <= seconds <= MAX_DELAY:
        problem = (
            f"delay is seconds from 0 to {MAX_DELAY:.1f} (310 days), as a number or a timedelta, "
            f"not {shown(outgoing.delay)}"
        )
    if problem is None and outgoing.expiration is not None:
        problem = (
            "it has an expiration and is to be published later: the broker takes the expiration "
            "away as it holds the message. Leave it out, and let the body say until when it counts"
        )
    if problem is None and not mandatory:
        problem = (
            "it is not mandatory and is to be published later: when it is due, the broker keeps "
            "what no queue is bound for. Say mandatory=True, if that is right"
        )
    if problem is not None:
        raise _invalid(outgoing, exchange, problem)
    assert seconds is not None
    if seconds <= 0:
        return None
    return now + timedelta(seconds=seconds) if at is None else at.astimezone(UTC)


def _expiration(given: Seconds) -> float:
    """Return seconds: at least a millisecond, for less is 0 to the broker, and expires at once."""
    seconds = as_seconds(given)
    assert seconds is not None
    return max(seconds, 0.001) if seconds else 0.0


_SHOWN = 40
"""Characters shown of what is too long."""

_COPIES = ("CC", "BCC")
"""More routing keys (https://www.rabbitmq.com/docs/sender-selected); over anything else the broker
closes the channel, with all that is in flight on it."""

_SHORT_TEXTS = (
    "message_id",
    "correlation_id",
    "reply_to",
    "type",
    "content_type",
)
"""Fields sent as short strings (AMQP 0-9-1, section 4.2.5.3)."""

MAX_EXPIRATION = 4_294_967
"""Seconds: RabbitMQ takes at most 2^32 - 1 milliseconds (https://www.rabbitmq.com/docs/ttl)."""

MAX_PRIORITY = 255
"""The property is one octet (AMQP 0-9-1, section 1.8)."""

AT_A_TIME = 256
"""Ids whose random bits are asked of the system at once: a call costs more than the bits."""

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""A hexadecimal digit with its two highest bits set to those of the RFC's variant."""
