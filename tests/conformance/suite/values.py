"""The plain values of the suite, the same whichever client library carried them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from mqkit.errors import BrokerError

NOT_SENT = 0
"""The code of a `Closed` for which the broker sent none."""


class PropertyFields(TypedDict, total=False):
    """The keyword arguments of a publish: AMQP's own names and types."""

    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    delivery_mode: int
    priority: int
    correlation_id: str
    reply_to: str
    expiration: str
    message_id: str
    timestamp: int
    type: str
    user_id: str
    app_id: str


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of a message (AMQP 0-9-1, section 1.8); None is not set.

    `expiration` is text, in milliseconds; `timestamp` is in seconds since 1970.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A `basic.deliver` or `basic.get-ok`; `message_count` is of the latter alone."""

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    consumer_tag: str = ""
    message_count: int | None = None

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers, empty where there are none."""
        return self.properties.headers or {}


@dataclass(frozen=True, slots=True)
class Returned:
    """A `basic.return`."""

    code: int
    text: str
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes


@dataclass(frozen=True, slots=True)
class Confirm:
    """A `basic.ack` or `basic.nack` that the broker sent, as it came."""

    tag: int
    multiple: bool
    acked: bool


@dataclass(frozen=True, slots=True)
class QueueOk:
    """What `queue.declare-ok` tells."""

    name: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a channel or a connection closed: the code and words of the broker, or 0 for none.

    `class_id` and `method_id` are None where the client library keeps them to itself.
    """

    code: int
    text: str
    of_connection: bool = False
    class_id: int | None = field(default=None, compare=False)
    method_id: int | None = field(default=None, compare=False)

    def error(self) -> ClosedError:
        """Make the error for whoever still waits for an answer."""
        kind = ConnectionClosedError if self.of_connection else ChannelClosedError
        return kind(self.code, self.text)


class ClosedError(BrokerError):
    """The broker closed a channel or the connection; `code` and `text` are its."""

    what = "channel or connection"

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the {self.what} was closed with {code}: {text}")
        self.code = code
        self.text = text


class ChannelClosedError(ClosedError):
    """The broker closed the channel."""

    what = "channel"


class ConnectionClosedError(ClosedError):
    """The broker closed the connection, or refused to open it."""

    what = "connection"
