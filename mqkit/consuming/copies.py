"""Makes the copies that replace a delivery: to be retried, forwarded or dead-lettered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from mqkit.amqp import field_tables
from mqkit.amqp.content_header import carry, names, without
from mqkit.clock import stamp
from mqkit.errors import HeadersTooLargeError, InvalidMessageError
from mqkit.limits import MAX_HEADERS, table_size
from mqkit.logging.error_reports import TYPES
from mqkit.logging.error_texts import error_type, masked_text, masked_traceback
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.message import (
    RESERVED_PREFIX,
    Delivery,
    Header,
    HeaderValue,
    Message,
    Properties,
    value_of,
)
from mqkit.outcome import DeadLetter, RetryAfter

MAX_ERROR_MESSAGE = 1_000
"""Bytes of an error's text that a dead letter keeps."""

MAX_TRACEBACK = 6_000
"""Bytes of a traceback that a dead letter keeps, from its end.

All headers must fit into one frame; one that does not closes the connection (501).
"""

MAX_NAME_SHOWN = 255
"""Bytes of a name (of a handler, a service, a type of error) that a dead letter keeps."""

MAX_PLACE_SHOWN = 500
"""Bytes of a place in the application's code that a dead letter keeps."""

_NOT_COPIED = frozenset({"CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"})
"""CC and BCC would route the copy to more queues than its own; the others are the broker's
account of one stay in one queue, and before 4.0.1 a republished x-death makes it drop."""

_NOT_COPIED_PREFIXES = ("x-first-death-", "x-last-death-")


def retry_copy(
    delivery: Delivery,
    outcome: RetryAfter,
    exchange: str,
    routing_key: str,
    now: datetime,
    *,
    time_to_live: float | None = None,
) -> Message:
    """Make the message for its next attempt, with the same `message_id`.

    :param time_to_live: seconds that it has, after the delay; None is for ever
    """
    headers = _carried(delivery)
    if time_to_live is not None:
        headers[Header.TIME_TO_LIVE] = round(time_to_live * 1000)
    headers[Header.ATTEMPT] = delivery.attempt + (1 if outcome.counted else 0)
    headers[Header.ELAPSED] = round(outcome.elapsed * 1000)
    headers.setdefault(Header.FIRST_FAILURE, stamp(now))
    return Message(exchange, routing_key, delivery.body, _properties(delivery, headers))


def forward_copy(
    delivery: Delivery, exchange: str, routing_key: str, *, time_to_live: float | None = None
) -> Message:
    """Make the message for a partition of its queue, at the same attempt.

    :param time_to_live: seconds that it has; None is for ever
    """
    headers = _carried(delivery)
    if delivery.attempt > 1:
        headers[Header.ATTEMPT] = delivery.attempt
    properties = replace(_properties(delivery, headers), expiration=time_to_live)
    return Message(exchange, routing_key, delivery.body, properties)


def dead_letter_copy(
    delivery: Delivery,
    outcome: DeadLetter,
    service: str,
    handler: str,
    now: datetime,
    *,
    masker: Masker = DEFAULT,
    package: str | None = None,
) -> Message:
    """Make the message for `<queue>.dead`, with what happened to it in its headers.

    :param masker: masks secrets in the texts of the error
    :param package: the top package of the handler's module (`mqkit.logging.places.place_of`)
    """
    error = outcome.error
    headers = _carried(delivery)
    headers.pop(Header.ATTEMPT, None)
    headers.pop(Header.ELAPSED, None)
    headers.pop(Header.ERROR_PLACE, None)  # of the failure before a replay
    headers.setdefault(Header.FIRST_FAILURE, stamp(now))
    headers |= {
        Header.ATTEMPTS: delivery.attempt,
        Header.LAST_FAILURE: stamp(now),
        Header.REASON: outcome.reason.value,
        Header.ERROR_TYPE: head(error_type(error), MAX_NAME_SHOWN),
        Header.ERROR_MESSAGE: head(masked_text(error, masker), MAX_ERROR_MESSAGE),
        Header.ERROR_TRACEBACK: tail(masked_traceback(error, masker), MAX_TRACEBACK),
        Header.SERVICE: head(service, MAX_NAME_SHOWN),
        Header.HANDLER: head(handler, MAX_NAME_SHOWN),
        Header.QUEUE: delivery.queue,
    }
    if (place := TYPES.of(error, package).where) is not None:
        headers[Header.ERROR_PLACE] = head(masker.mask(place), MAX_PLACE_SHOWN)
    return Message("", f"{delivery.queue}.dead", delivery.body, _properties(delivery, headers))


def fitted(message: Message, error: InvalidMessageError) -> Message:
    """Return the copy with less in it, after it could not be written because of `error`.

    What the application gave goes last. To make room: mqkit's account of the failure, which the log
    has too, then the application's headers, the largest first. For what cannot be encoded: those
    headers alone that cannot. Called until the copy is written, it ends with next to nothing.

    :raises InvalidMessageError: `error`, as nothing is left that could be taken away
    """
    properties = message.properties
    if isinstance(error, HeadersTooLargeError):
        return replace(message, properties=_shrunk(properties, error))
    foreign = [name for name in names(properties) if not name.startswith(RESERVED_PREFIX)]
    kept_as_they_came = properties.carried.entries if properties.carried is not None else {}
    unwritable = [
        name
        for name, value in properties.headers.items()
        if name not in kept_as_they_came and not _is_encodable(name, value)
    ]
    if unwritable or foreign:
        return replace(message, properties=without(properties, *(unwritable or foreign)))
    bare = Properties(message_id=properties.message_id, headers=properties.headers)
    if properties.carried is None and properties == bare:
        raise error
    return replace(message, properties=bare)


def _shrunk(properties: Properties, error: HeadersTooLargeError) -> Properties:
    """Return the properties with as many bytes less as they are too large by, if possible."""
    headers, excess = dict(properties.headers), error.size - error.limit
    for name, cut in ((Header.ERROR_TRACEBACK, tail), (Header.ERROR_MESSAGE, head)):
        text = headers.get(name)
        if isinstance(text, str) and text:
            size = len(text.encode())
            headers[name] = cut(text, max(size - excess, 0))
            excess -= size
            if excess <= 0:
                return replace(properties, headers=headers)
    properties = replace(properties, headers=headers)
    foreign = [name for name in names(properties) if not name.startswith(RESERVED_PREFIX)]
    if not foreign:
        raise error
    return without(properties, max(foreign, key=lambda name: _size(properties, name)))


def _is_encodable(name: str, value: HeaderValue) -> bool:
    try:
        field_tables.encode({name: value})
    except Exception:  # noqa: BLE001 - a handler may have put anything there
        return False
    return True


def _size(properties: Properties, name: str) -> int:
    """Return the bytes of a header on the wire."""
    if properties.carried is not None and name in properties.carried.entries:
        return len(properties.carried.entries[name])
    return table_size({name: properties.headers[name]}, MAX_HEADERS) or 0


def _carried(delivery: Delivery) -> dict[str, HeaderValue]:
    headers = {name: value for name, value in delivery.headers.items() if _is_copied(name)}
    headers[Header.EXCHANGE] = value_of(delivery.exchange)
    headers[Header.ROUTING_KEY] = value_of(delivery.routing_key)
    return headers


def _is_copied(name: str) -> bool:
    return (
        name not in _NOT_COPIED
        and not name.startswith(_NOT_COPIED_PREFIXES)
        and name not in (Header.PUBLISH, Header.TIME_TO_LIVE)
    )


def _properties(delivery: Delivery, headers: Mapping[str, HeaderValue]) -> Properties:
    copy = replace(
        delivery.properties,
        headers=headers,
        persistent=True,
        # Its time to live was for its first stay; in the ladder it would cut the delay short.
        expiration=None,
        # The broker refuses one that is not the user of this connection.
        user_id=None,
    )
    return carry(copy, delivery.properties, _is_copied)


def head(text: str, limit: int) -> str:
    """Cut a text to its beginning, in so many bytes of UTF-8 at most."""
    data = text[:limit].encode("utf-8", "replace")
    if len(text) <= limit and len(data) <= limit:
        return data.decode()
    return (data[: max(limit - len(_CUT), 0)].decode("utf-8", "ignore") + _CUT)[:limit]


def tail(text: str, limit: int) -> str:
    """Cut a text to its end, in so many bytes of UTF-8 at most."""
    data = text[max(len(text) - limit, 0) :].encode("utf-8", "replace")
    if len(text) <= limit and len(data) <= limit:
        return data.decode()
    kept = data[len(data) - max(limit - len(_CUT), 0) :]
    return (_CUT + kept.decode("utf-8", "ignore"))[:limit]


_CUT = "[cut]"
