"""The copies that replace a delivery: one to be retried, one for the dead letter queue. Pure."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from mqkit.content_header import carry, names, without
from mqkit.message import Delivery, Header, HeaderValue, Message, Properties, value_of
from mqkit.outcome import DeadLetter, RetryAfter

MAX_ERROR_MESSAGE = 1_000
"""Bytes of an error's text that a dead letter keeps."""

MAX_TRACEBACK = 6_000
"""Bytes of a traceback that a dead letter keeps, from its end.

All headers must fit into one frame; one that does not closes the connection (501).
"""

_NOT_COPIED = frozenset({"CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"})
"""CC and BCC would route the copy to more queues than its own; the others are the broker's
account of one stay in one queue, and before 4.0.1 a republished x-death makes it drop."""

_NOT_COPIED_PREFIXES = ("x-first-death-", "x-last-death-")


def retry_copy(
    delivery: Delivery, outcome: RetryAfter, exchange: str, routing_key: str, now: datetime
) -> Message:
    """The same message for its next attempt, with the same `message_id`."""
    headers = _carried(delivery)
    headers[Header.ATTEMPT] = delivery.attempt + (1 if outcome.counted else 0)
    headers[Header.ELAPSED] = round(outcome.elapsed * 1000)
    headers.setdefault(Header.FIRST_FAILURE, stamp(now))
    return Message(exchange, routing_key, delivery.body, _properties(delivery, headers))


def forward_copy(delivery: Delivery, exchange: str, routing_key: str) -> Message:
    """The same message for a partition of its queue, at the same attempt."""
    headers = _carried(delivery)
    if delivery.attempt > 1:
        headers[Header.ATTEMPT] = delivery.attempt
    return Message(exchange, routing_key, delivery.body, _properties(delivery, headers))


def dead_letter_copy(
    delivery: Delivery, outcome: DeadLetter, service: str, handler: str, now: datetime
) -> Message:
    """The same message for `<queue>.dead`, with what happened to it in its headers."""
    error = outcome.error
    headers = _carried(delivery)
    headers.pop(Header.ATTEMPT, None)
    headers.pop(Header.ELAPSED, None)
    headers.setdefault(Header.FIRST_FAILURE, stamp(now))
    headers |= {
        Header.ATTEMPTS: delivery.attempt,
        Header.LAST_FAILURE: stamp(now),
        Header.REASON: outcome.reason.value,
        Header.ERROR_TYPE: error_type(error),
        Header.ERROR_MESSAGE: _head(str(error), MAX_ERROR_MESSAGE),
        Header.ERROR_TRACEBACK: _tail("".join(traceback.format_exception(error)), MAX_TRACEBACK),
        Header.SERVICE: service,
        Header.HANDLER: handler,
        Header.QUEUE: delivery.queue,
    }
    return Message("", f"{delivery.queue}.dead", delivery.body, _properties(delivery, headers))


def without_foreign_headers(message: Message) -> Message:
    """The copy with mqkit's own headers only, for one whose other headers cannot be written."""
    foreign = [name for name in names(message.properties) if not name.startswith("mqkit-")]
    return replace(message, properties=without(message.properties, *foreign))


def error_type(error: BaseException) -> str:
    """An error's type with its module, as a traceback prints it."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def describe(error: BaseException) -> str:
    """An error for the log: its type and where it was raised, never its text.

    The text may quote the message, and with it what must not be in a log.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{error_type(error)}{where}"


def _carried(delivery: Delivery) -> dict[str, HeaderValue]:
    headers = {name: value for name, value in delivery.headers.items() if _is_copied(name)}
    headers[Header.EXCHANGE] = value_of(delivery.exchange)
    headers[Header.ROUTING_KEY] = value_of(delivery.routing_key)
    return headers


def _is_copied(name: str) -> bool:
    return (
        name not in _NOT_COPIED
        and not name.startswith(_NOT_COPIED_PREFIXES)
        and name != Header.PUBLISH
    )


def _properties(delivery: Delivery, headers: Mapping[str, HeaderValue]) -> Properties:
    copy = replace(
        delivery.properties,
        headers=headers,
        message_id=delivery.message_id or str(uuid.uuid4()),
        persistent=True,
        # Its time to live was for its first stay; in the ladder it would cut the delay short.
        expiration=None,
        # The broker refuses one that is not the user of this connection.
        user_id=None,
    )
    return carry(copy, delivery.properties, _is_copied)


def stamp(moment: datetime) -> str:
    """A time as mqkit's headers have it: ISO 8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _head(text: str, limit: int) -> str:
    data = text.encode("utf-8", "replace")
    return (
        data.decode() if len(data) <= limit else data[:limit].decode("utf-8", "ignore") + " [cut]"
    )


def _tail(text: str, limit: int) -> str:
    data = text.encode("utf-8", "replace")
    return (
        data.decode() if len(data) <= limit else "[cut] " + data[-limit:].decode("utf-8", "ignore")
    )
