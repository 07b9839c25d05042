"""Messages and deliveries: what is published, what is received, and mqkit's own headers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

HeaderValue = (
    None
    | bool
    | int
    | float
    | str
    | bytes
    | Decimal
    | datetime
    | list["HeaderValue"]
    | dict[str, "HeaderValue"]
)

RESERVED_PREFIX = "mqkit-"
"""Headers under this prefix are mqkit's own; a publish that carries one is refused."""


class Header:
    """The names of mqkit's own headers."""

    PUBLISH = "mqkit-publish"
    UNREADABLE = "mqkit-unreadable"
    ATTEMPT = "mqkit-attempt"
    ATTEMPTS = "mqkit-attempts"
    ELAPSED = "mqkit-elapsed"
    TIME_TO_LIVE = "mqkit-time-to-live"
    EXCHANGE = "mqkit-exchange"
    ROUTING_KEY = "mqkit-routing-key"
    QUEUE = "mqkit-queue"
    SERVICE = "mqkit-service"
    HANDLER = "mqkit-handler"
    REASON = "mqkit-reason"
    ERROR_TYPE = "mqkit-error-type"
    ERROR_MESSAGE = "mqkit-error-message"
    ERROR_TRACEBACK = "mqkit-error-traceback"
    ERROR_PLACE = "mqkit-error-place"
    FIRST_FAILURE = "mqkit-first-failure"
    LAST_FAILURE = "mqkit-last-failure"
    HISTORY = "mqkit-history"
    REPLAYS = "mqkit-replays"
    REPLAY = "mqkit-replay"
    EDITED_FROM = "mqkit-edited-from"
    REPLY = "mqkit-reply"


@dataclass(frozen=True, slots=True)
class Carried:
    """The parts of a message that its copy (a retry, a dead letter) takes over byte for byte."""

    entries: Mapping[str, bytes]
    """Header entries by their names, encoded; written in the place of what `headers` has there."""
    properties: Mapping[str, bytes]
    """Encoded properties that `Properties` cannot hold, by AMQP's names."""


@dataclass(frozen=True, slots=True)
class Properties:
    """The AMQP message properties (AMQP 0-9-1, section 1.8 "Basic"), in Python's types.

    A property that came as something else, a text that is no UTF-8 for example, is None.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    persistent: bool = True
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: float | None = None
    """Seconds after which the broker expires the message in a queue; None is never."""
    message_id: str | None = None
    timestamp: datetime | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    received: bytes | None = field(default=None, compare=False, repr=False)
    """Of a delivery that has headers, or odd properties: its flags and properties as they came."""
    carried: Carried | None = field(default=None, compare=False, repr=False)
    """Of a copy: written as it came with the original (`mqkit.amqp.content_header.carry`)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to be written: where to, and its bytes."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties = field(default_factory=Properties)
    mandatory: bool = True
    due: datetime | None = None
    """When the broker is to publish it; None is at once."""
    due_after: float | None = field(default=None, compare=False)
    """The same on the monotonic clock of this process, where it was given as a delay: a wall clock
    that is set meanwhile makes that neither longer nor shorter."""


class DeliveryChannel(Protocol):
    """The channel that a delivery came by; only the settler calls its methods."""

    @property
    def is_open(self) -> bool: ...

    def ack(self, tag: int, multiple: bool = False) -> None: ...

    def nack(self, tag: int, *, requeue: bool, multiple: bool = False) -> None: ...

    def reject(self, tag: int, *, requeue: bool) -> None: ...


class DeliveryTrace(Protocol):
    """What tracing knows of a delivery."""

    @property
    def trace_id(self) -> str:
        """The trace that its last run belongs to, as 32 hexadecimal digits; '' before the first."""
        ...

    @property
    def span_id(self) -> str:
        """The span of its last run, as 16 hexadecimal digits."""
        ...

    def carry(self, headers: Mapping[str, HeaderValue]) -> None:
        """Put the context of its last run into the headers of a reply, a dict of its own."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class Delivery:
    """One message as it was handed to this process, with the channel that it came by.

    A handler that takes a `Delivery` gets the message's metadata; a unit test may build one
    with just the fields that its handler reads.
    """

    body: bytes = b""
    properties: Properties = field(default_factory=Properties)
    exchange: str = ""
    """The exchange that the message was first published to, over all its retries."""
    routing_key: str = ""
    """The routing key that it was first published with, over all its retries.

    Bytes of names that are no UTF-8 are surrogates, as in `headers`.
    """
    queue: str = ""
    attempt: int = 1
    """1 for the first run of the handler, counted in mqkit's own header.

    Where an order is kept, the process that holds the message counts; the next one begins anew.
    """
    redelivered: bool = False
    """The broker's flag. False does not mean new: see `attempt` and `message_id`."""
    tag: int = 0
    channel: DeliveryChannel | None = None
    settled: bool = False
    """True once its ack or nack is decided on and being written; set by `settle` alone."""
    overdue: bool = False
    """True once the handler's `timeout` has passed, and its failure was decided on.

    A handler in a thread cannot be stopped from outside; it can look at this and stop early.
    """
    expires: float | None = None
    """When its time to live ends, on the monotonic clock in seconds; None is never."""
    trace: DeliveryTrace | None = None
    """Set by tracing alone; None where its service has none, and before the first run."""
    ran: tuple[float, float | None] | None = None
    """When its last run began and ended, on the monotonic clock; None: it has not run.

    Only set where an observer asks for it (`Observer.times_runs`). Of a batch the first one has
    both times, and the others have no end, since it was one run.
    """
    decoded: tuple[Any] | None = field(default=None, init=False, repr=False)
    """Its body, if its order key was read from that and no run has taken it; for mqkit alone."""

    @property
    def message_id(self) -> str | None:
        """The stable identity of the message; None where its publisher gave it none."""
        return self.properties.message_id

    @property
    def headers(self) -> Mapping[str, HeaderValue]:
        """The message's headers, without those of mqkit's that its sender may not set.

        Bytes in a name that are no UTF-8 are surrogates (PEP 383): `name.encode("utf-8",
        "surrogateescape")` gives them back. A long string that is no UTF-8 is bytes, a time after
        the year 9999 the whole number of its seconds. Retries and dead letters have every header as
        it came, with its AMQP type.
        """
        return self.properties.headers

    @property
    def lost(self) -> bool:
        """True once the channel is gone: the broker gives the message to somebody else.

        A long-running handler, above all one in a thread, can look at this and stop early.
        """
        return self.channel is not None and not self.channel.is_open


def value_of(name: str) -> str | bytes:
    """Write a name as a header's value: text, or bytes where it came as no UTF-8."""
    return name if name.isascii() or _is_text(name) else name.encode(errors="surrogateescape")


def text_of(value: HeaderValue) -> HeaderValue:
    """Read back the name that `value_of` has written."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def maker(cls: Callable[P, T]) -> Callable[P, T]:
    """Return a fast constructor of a frozen dataclass, as fast as of one that is not frozen.

    The `__init__` of a frozen one goes by `object.__setattr__` for each field, which for a
    message's 13 properties takes a microsecond: three times as long as this does.

    It is a class with the same slots that is not frozen, whose instances change their class once
    they are filled: the two have one layout (the Python reference, 3.3.2.4 "__slots__").

    :param cls: a dataclass with `slots=True`, without a base, a `__post_init__` or an `__init__`
    """
    fields: list[tuple[str, Any, Any]] = []
    for each in dataclasses.fields(cast(Any, cls)):
        default: dict[str, Any] = {"kw_only": each.kw_only}
        if each.default is not dataclasses.MISSING:
            default["default"] = each.default
        if each.default_factory is not dataclasses.MISSING:
            default["default_factory"] = each.default_factory
        fields.append((each.name, each.type, field(**default)))

    def freeze(self: Any) -> None:
        self.__class__ = cls

    twin = dataclasses.make_dataclass(
        f"_{cls.__name__}", fields, slots=True, eq=False, namespace={"__post_init__": freeze}
    )
    return cast(Callable[P, T], twin)
