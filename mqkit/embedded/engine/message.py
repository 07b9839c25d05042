"""A message as the broker holds it, shared by its queues, and its entry in each of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pamqp import commands

from mqkit.embedded.errors import precondition_failed
from mqkit.embedded.wire.frames import ReceivedHeader, type_name
from mqkit.embedded.wire.tables import encode_header

Properties = commands.Basic.Properties

MESSAGE_BYTES = 340
"""Bytes that a message takes beside its body and its content header: measured, CPython 3.11."""

DELIVERY_COUNT = "x-delivery-count"
ACQUIRED_COUNT = "x-acquired-count"


@dataclass(frozen=True, slots=True)
class Death:
    """Why and how often a message was dead-lettered from one queue for one reason."""

    queue: str
    reason: str
    exchange: str
    routing_keys: tuple[str, ...]
    time: float
    """Seconds since 1970, of the first of them."""
    count: int = 1
    original_expiration: str | None = None


@dataclass(slots=True, eq=False)
class Message:
    """Immutable by agreement: queues share it, and what changes it makes a new one.

    `header` is the content header as it was received, byte for byte, so that types which only
    one client knows reach another one as they were.
    """

    exchange: str
    routing_keys: tuple[str, ...]
    """The publisher's routing key first, then what `CC` and `BCC` added."""
    _properties: Properties | None
    body: bytes
    header: bytes | None = None
    """The payload of its content header frame, where it is as it was received."""
    deaths: tuple[Death, ...] = ()
    origin: tuple[bytes, Properties] | None = None
    """Where `header` is None: the one that `properties` are a change of."""
    persistent: bool = field(init=False)
    """Survives a restart of the broker, in a durable queue (delivery mode 2)."""
    holders: int = field(init=False, default=0)
    """Queues and transactions that have it; kept by `Memory`."""
    is_shared: bool = field(init=False, default=False)
    """Several queues have it: what is encoded for one consumer serves another one."""
    encoded: dict[tuple[int, int], bytes] | None = field(init=False, default=None)
    """Content frames by channel number and frame_max, of one that is shared."""

    def __post_init__(self) -> None:
        mode = self.properties.delivery_mode
        self.persistent = mode == 2  # noqa: PLR2004 - the specification's value

    @property
    def properties(self) -> Properties:
        """Its properties; do not change them."""
        found = self._properties
        if found is None:
            assert self.header is not None
            found = self._properties = ReceivedHeader(self.header).properties
        return found

    @property
    def footprint(self) -> int:
        """Bytes that it takes, more or less."""
        return MESSAGE_BYTES + len(self.body) + len(self.header or b"")

    def condense(self) -> None:
        """Drop the decoded properties where `header` still has them: it may wait for long."""
        if self.header is not None:
            self._properties = None

    @property
    def routing_key(self) -> str:
        """The routing key that `basic.deliver` tells."""
        return self.routing_keys[0] if self.routing_keys else ""

    @property
    def headers(self) -> dict[str, Any]:
        """The header table; empty where there is none. Do not change it."""
        return self.properties.headers or {}

    def with_headers(self, changes: dict[str, Any]) -> Message:
        """Make a copy with these headers set; None takes one out."""
        headers = {**self.headers, **changes}
        properties = copy.copy(self.properties)
        properties.headers = {k: v for k, v in headers.items() if k not in changes or v is not None}
        return Message(
            self.exchange,
            self.routing_keys,
            properties,
            self.body,
            None,
            self.deaths,
            origin=self.unchanged,
        )

    @property
    def unchanged(self) -> tuple[bytes, Properties] | None:
        """The header that this message was made from, and its properties; None if there is none."""
        return self.origin if self.header is None else (self.header, self.properties)

    def content_header(self) -> bytes:
        """Return the payload of its content header frame."""
        if self.header is not None:
            return self.header
        return encode_header(self.properties, len(self.body), *(self.origin or ()))


@dataclass(slots=True, eq=False)
class Entry:
    """A message in one queue."""

    message: Message
    number: int
    """Its place in the queue: entries of one queue count up."""
    priority: int = 0
    expires_at: float | None = None
    """Seconds of the broker's clock."""
    redelivered: bool = False
    delivery_count: int = 0
    """How often it came back and that counts towards the delivery limit (quorum queues)."""
    acquired_count: int = 0
    """How often it came back at all (quorum queues)."""

    @property
    def size(self) -> int:
        """Bytes that count towards `x-max-length-bytes`: the body's."""
        return len(self.message.body)

    def has_expired(self, now: float) -> bool:
        """Return True if its time was over by then."""
        return self.expires_at is not None and self.expires_at <= now


def header_routing_keys(headers: Mapping[str, Any]) -> Iterable[str]:
    """Return further routing keys from `CC` and `BCC` (sender-selected distribution).

    https://www.rabbitmq.com/docs/sender-selected

    :raises ReplyError: 406, one is no array; what is no text in an array is passed over
    """
    for name in ("CC", "BCC"):
        if name not in headers:
            continue
        keys = headers[name]
        if not isinstance(keys, list):
            kind = type_name(keys)
            raise precondition_failed(
                f'invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}'
            )
        yield from (key for key in keys if isinstance(key, str))
