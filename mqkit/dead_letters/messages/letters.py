"""Reads what a message in a dead letter queue tells of itself. Pure, and safe on whatever is there.

Anybody who may publish to the default exchange can write such a message. So each header is taken as
what it should be or not at all, and what is taken is information: it steers nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mqkit.drivers.base import Incoming
from mqkit.message import Header, HeaderValue, Properties, text_of

MAX_HISTORY = 10
"""Former failures that a message remembers; the oldest go first."""

MAX_FAILURE = 400
"""Characters of one former failure."""

MAX_REPLAYS = 1_000_000
"""The highest count that is believed."""

UNKNOWN = "unknown"
"""The reason of a message that neither mqkit nor the broker has dead-lettered."""

OF_BROKER = "broker: "
"""Stands before the reason of what the broker has dead-lettered: `broker: delivery_limit`."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of a dead letter queue, with what it tells of its failures.

    Its texts are as they came. Whoever shows them takes `view`, which masks secrets.
    """

    ref: str
    """Twelve hexadecimal digits by which it can be named: of its id, body and last failure."""
    message_id: str | None
    reason: str
    """A value of `DeathReason`; `broker: delivery_limit` or the like; or 'unknown'."""
    error_type: str | None
    error_message: str | None
    place: str | None
    """The innermost frame of the application's own code: `shop/ledger.py:42 in post`."""
    handler: str | None
    service: str | None
    exchange: str
    routing_key: str
    """Where it was first published."""
    attempts: int | None
    """How often it was tried, the last time."""
    first_failure: datetime | None
    last_failure: datetime | None
    replays: int
    """How often it was replayed."""
    replay: str | None
    """Names its last replay."""
    history: tuple[str, ...]
    """Its failures before the last one, the oldest first: of each a line."""
    edited_from: str | None
    """The id of the message that it is an edited copy of."""
    size: int
    """Bytes of its body."""
    properties: Properties = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    """None where it was not asked for."""
    traceback: str | None = field(default=None, repr=False)

    @property
    def group(self) -> str:
        """The fingerprint of its failure: eight hexadecimal digits."""
        parts = (self.reason, self.error_type, self.place, self.handler)
        return _digest(*(part or "" for part in parts))[:8]

    def failure(self) -> str:
        """Say in a line how it failed, to be remembered over a replay."""
        when = "" if self.last_failure is None else f"{self.last_failure.isoformat()} "
        what = self.error_type or self.reason
        where = f" at {self.place}" if self.place else ""
        tried = f", attempt {self.attempts}" if self.attempts else ""
        return f"{when}{what}{where}{tried}"[:MAX_FAILURE]


def read(incoming: Incoming, *, queue: str, has_body: bool = False) -> Letter:
    """Read a message of a dead letter queue.

    :param queue: the queue that its dead letters are of
    :param has_body: whether its body is kept
    """
    headers = incoming.properties.headers
    death = _death(headers)
    exchange, routing_key = _origin(headers, death, queue)
    reason = _text(headers, Header.REASON)
    if reason is None:
        reason = UNKNOWN if death is None else f"{OF_BROKER}{death.get('reason')}"
    first, last = _time(headers, Header.FIRST_FAILURE), _time(headers, Header.LAST_FAILURE)
    if last is None and death is not None and isinstance(death.get("time"), datetime):
        last = death["time"]
    message_id = incoming.properties.message_id
    return Letter(
        ref=_digest(message_id or "", last.isoformat() if last else "", incoming.body)[:12],
        message_id=message_id,
        reason=reason,
        error_type=_text(headers, Header.ERROR_TYPE),
        error_message=_text(headers, Header.ERROR_MESSAGE),
        place=_text(headers, Header.ERROR_PLACE),
        handler=_text(headers, Header.HANDLER),
        service=_text(headers, Header.SERVICE),
        exchange=exchange,
        routing_key=routing_key,
        attempts=_count(headers.get(Header.ATTEMPTS)),
        first_failure=first or last,
        last_failure=last,
        replays=_count(headers.get(Header.REPLAYS)) or 0,
        replay=_text(headers, Header.REPLAY),
        history=_history(headers.get(Header.HISTORY)),
        edited_from=_text(headers, Header.EDITED_FROM),
        size=len(incoming.body),
        properties=incoming.properties,
        body=incoming.body if has_body else None,
        traceback=_text(headers, Header.ERROR_TRACEBACK),
    )


def _digest(*parts: str | bytes) -> str:
    made = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        made.update(len(data).to_bytes(8))
        made.update(data)
    return made.hexdigest()


def _text(headers: Mapping[str, HeaderValue], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) and value else None


def _count(value: HeaderValue) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_REPLAYS:
        return value
    return None


def _time(headers: Mapping[str, HeaderValue], name: str) -> datetime | None:
    value = headers.get(name)
    if not isinstance(value, str) or len(value) > 40:  # noqa: PLR2004 - of any ISO 8601 time
        return None
    try:
        moment = datetime.fromisoformat(value)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _history(value: HeaderValue) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    lines = (each[:MAX_FAILURE] for each in value[-MAX_HISTORY:] if isinstance(each, str))
    return tuple(lines)


def _death(headers: Mapping[str, HeaderValue]) -> Mapping[str, Any] | None:
    """Return the broker's account of the last time that it dead-lettered the message."""
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return None


def _origin(
    headers: Mapping[str, HeaderValue], death: Mapping[str, Any] | None, queue: str
) -> tuple[str, str]:
    """Return where it was first published, by mqkit's headers or else by the broker's."""
    exchange = text_of(headers.get(Header.EXCHANGE))
    routing_key = text_of(headers.get(Header.ROUTING_KEY))
    if isinstance(exchange, str) and isinstance(routing_key, str):
        return exchange, routing_key
    if death is not None:
        keys = death.get("routing-keys")
        exchange = text_of(death.get("exchange"))
        routing_key = text_of(keys[0]) if isinstance(keys, list) and keys else None
        if isinstance(exchange, str) and isinstance(routing_key, str):
            return exchange, routing_key
    return "", queue


__all__ = ["MAX_HISTORY", "OF_BROKER", "UNKNOWN", "Letter", "read"]
