"""The Protocol of a driver: what mqkit asks of an AMQP client library, and what it gets from it.

A driver translates; it decides nothing. It does not recover, retry, count or settle: that is done
by `mqkit.broker`, `publishing` and `consuming`, once for all drivers.

The promises below have their cases in `tests.conformance.suite`, under "drivers"; all but those
of `extra_headers`, of `reject` and of a close in order, which mqkit's own tests hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mqkit.errors import ChannelClosedError
from mqkit.message import HeaderValue, Message, Properties
from mqkit.settings import BrokerUrl, Host

REPLY_SUCCESS = 200
"""The reply code of a close in peace (AMQP 0-9-1, section 1.2 "Constants")."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a connection or channel closed.

    `code` is the broker's AMQP reply code, 0 where it sent none (the stream was lost, or this
    side closed it); `text` is for a person and holds no secret.
    """

    code: int
    text: str

    @property
    def by_broker(self) -> bool:
        """True if the broker closed it with a reply code, rather than by vanishing."""
        return self.code not in (0, REPLY_SUCCESS)

    def error(self) -> ChannelClosedError:
        """Make the error of a call that cannot be answered any more, because this closed."""
        return ChannelClosedError(self.code, self.text)


@dataclass(frozen=True, slots=True)
class QueueState:
    """The fields of a `queue.declare-ok`: the name, how many messages are ready, and consumers."""

    name: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as the broker sent it, by `basic.deliver` or `basic.get-ok`.

    Header values have the types of `mqkit.message.HeaderValue`; times are whole seconds in UTC. The
    headers are a dict that is the receiver's own.
    """

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes


@dataclass(frozen=True, slots=True)
class Returned:
    """A mandatory message that the broker could not route, as it came back by `basic.return`."""

    code: int
    text: str
    exchange: str
    routing_key: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class Acked:
    """The broker confirmed a message: its queues have stored it, or there were none."""


@dataclass(frozen=True, slots=True)
class Nacked:
    """The broker confirmed that a queue refused the message (`basic.nack`)."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The channel closed before a confirm: nobody knows whether it is stored."""

    why: Closed


Verdict = Acked | Nacked | Returned | Gone
"""What became of a publish."""


class DriverChannel(Protocol):
    """A channel. Once closed it stays closed, and its delivery tags reach nothing.

    The awaitable methods raise `ChannelClosedError` with the broker's code if the channel
    closes before the answer; the plain ones raise it if the channel is closed already. The code
    is 0 where the broker gave none, see `Closed`.

    Calls may be made at the same time, and each gets its own answer. What is called or published
    reaches the broker in that order, and a call whose caller is cancelled harms no other one.
    Callbacks are called on the event loop, in the order in which the broker sent what they tell.
    """

    @property
    def is_open(self) -> bool: ...

    @property
    def closed(self) -> asyncio.Future[Closed]:
        """Done when the channel is closed, for whatever reason. Do not cancel it."""
        ...

    async def declare_exchange(
        self,
        name: str,
        type: str,  # noqa: A002 - the specification's name
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
        passive: bool = False,
    ) -> None:
        """Declare an exchange, or, if `passive`, only ask whether there is one of the name."""
        ...

    async def declare_queue(
        self,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        passive: bool = False,
    ) -> QueueState:
        """Declare a queue, or, if `passive`, only ask for it; without a name the broker gives one.

        Who asks for a queue is told its messages and consumers: an answer of 0 that RabbitMQ gives
        as it could not count is not taken for one. The code is 406 where it is there otherwise, and
        the text tells the difference in the broker's words.
        """
        ...

    async def bind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange; no error if it is bound already."""
        ...

    async def bind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind the exchange `destination` to the exchange `source`, which then routes to it."""
        ...

    async def unbind_queue(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a binding of a queue away; no error if it is not there."""
        ...

    async def unbind_exchange(
        self,
        destination: str,
        source: str,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a binding between exchanges away; no error if it is not there."""
        ...

    async def delete_queue(self, name: str, *, if_empty: bool = False) -> int:
        """Delete a queue with what is in it; return how many messages were ready in it.

        No error if there is none. With `if_empty`, which quorum queues do not know (540), the code
        is 406 where a message is ready.
        """
        ...

    async def delete_exchange(self, name: str) -> None:
        """Delete an exchange with its bindings; no error if there is none."""
        ...

    async def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
    ) -> None:
        """Put the channel in confirm mode.

        `on_confirm(tag, multiple, acked)` is called for each `basic.ack` or `basic.nack`.

        `tag` is the number that `publish` gave; with `multiple` it is for all up to that one. The
        broker sends a return before the confirm of the same message, and `on_return` gets the
        properties that were published: message ids need not differ.
        """
        ...

    def publish(
        self, message: Message, extra_headers: Mapping[str, HeaderValue] | None = None
    ) -> int:
        """Write a message without waiting; return its number on this channel, counted from 1.

        `extra_headers` are written with the message's own.

        What was handed over before `close` is written.

        :raises InvalidMessageError: a header or property cannot be encoded, or all of them do not
            fit into one frame; nothing was written, and no number used
        """
        ...

    async def qos(self, prefetch: int) -> None:
        """Set how many unsettled messages each consumer may hold that is started from now on."""
        ...

    async def consume(
        self,
        queue: str,
        on_delivery: Callable[[Incoming], None],
        on_cancel: Callable[[], None],
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a consumer and return its tag.

        `on_delivery` gets every message, also what comes before this has returned. `on_cancel` is
        called once, when the broker cancels the consumer, also while `cancel` waits for its answer;
        not for `cancel` itself, nor for a close. With `no_ack` the broker takes each message for
        settled as it sends it, and nobody settles it.
        """
        ...

    async def cancel(self, consumer_tag: str) -> None:
        """Stop a consumer; nothing happens to one that was cancelled already.

        What the broker had sent before its answer still goes to `on_delivery` before this returns,
        and is not settled.
        """
        ...

    async def get(self, queue: str) -> Incoming | None:
        """Get one message (`basic.get`), to be acked or nacked, or None from an empty queue.

        If the caller is cancelled before the answer, the message goes back to its queue.
        """
        ...

    def ack(self, tag: int, multiple: bool = False) -> None:
        """Settle a message, with `multiple` all up to it, also if `close` is called right after."""
        ...

    def nack(self, tag: int, *, requeue: bool, multiple: bool = False) -> None:
        """Put a message back in its queue, or drop or dead-letter it; `multiple` as for `ack`."""
        ...

    def reject(self, tag: int, *, requeue: bool) -> None:
        """Do as `nack`, by `basic.reject`.

        It counts towards a delivery limit on RabbitMQ 4.3, too.
        """
        ...

    async def close(self, *, in_order: bool = False) -> None:
        """Close it, and return when `closed` is done; no error if it is closed already.

        Its consumers are cancelled first, since RabbitMQ (4.0.5, 4.3.6) may forget acks otherwise.
        With `in_order` they are not: what is unsettled goes back to its queue before a waiting
        consumer gets what comes after it.
        """
        ...


OpenChannel = Callable[[], Awaitable[DriverChannel]]
"""Opens a channel, as soon as there is a connection."""


class DriverConnection(Protocol):
    """An open connection. It does not recover: once closed it stays closed."""

    @property
    def server(self) -> str:
        """The broker's product and version, for people: 'RabbitMQ 4.0.5'."""
        ...

    @property
    def closed(self) -> asyncio.Future[Closed]:
        """Done when the connection is closed, for whatever reason. Do not cancel it."""
        ...

    async def channel(self) -> DriverChannel:
        """Open a channel; where the broker closes one, the others of the connection stay open.

        :raises ChannelClosedError: the connection is closed, or the broker refused it, with its
            code
        """
        ...

    async def close(self) -> None:
        """Close it with its channels, and return when all their `closed` are done.

        What was written before is not lost. No error if it is closed already, and it takes some
        seconds at most where the broker does not answer.
        """
        ...


class Driver(Protocol):
    """Opens connections with one AMQP client library."""

    @property
    def name(self) -> str: ...

    async def connect(
        self,
        url: BrokerUrl,
        host: Host,
        *,
        name: str,
        on_blocked: Callable[[str | None], None],
    ) -> DriverConnection:
        """Open one connection to one host; a caller who is cancelled leaves none behind.

        The broker is told `name` as the connection's, and the URL's heartbeat.

        `on_blocked` gets the broker's reason when it blocks publishers, and None when it stops.

        :raises AuthenticationError: the credentials were refused
        :raises VirtualHostError: the virtual host was refused
        :raises ConnectError: anything else, a timeout (`url.connect_timeout`) included, and a peer
            that does not speak AMQP
        """
        ...
