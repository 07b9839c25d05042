"""A connection of the blocking publisher: what it asks of pika's `BlockingConnection`.

All methods but `wake` belong to the thread that opened it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.select_connection import SelectConnection

from mqkit.drivers.base import Acked, Gone, Nacked, Returned, Verdict
from mqkit.drivers.frames import too_large
from mqkit.drivers.pika import convert as pika_wire
from mqkit.drivers.pika.mixin import ConnectionMixin
from mqkit.errors import ChannelClosedError
from mqkit.message import Message
from mqkit.publishing.probe import PROBE
from mqkit.settings import BrokerUrl, Host

_LOST = (exceptions.AMQPError, OSError)
"""What pika raises where the channel or the connection is gone."""


class _SelectConnection(ConnectionMixin, SelectConnection):  # type: ignore[misc]
    """The connection under pika's `BlockingConnection`, with checked frames and heartbeats."""


class BlockingConnection:
    """Publishes on a channel in confirm mode, and probes on another one."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self._connection = connection
        self._channel: BlockingChannel | None = None
        self._probe_channel: BlockingChannel | None = None
        self._probe_answered = False
        self._last_answer = float("-inf")
        self.blocked: str | None = None
        """Why the broker blocks publishers on this connection, or None."""
        self.may_probe = True
        """False once the broker has refused a probe, for want of a permission."""
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @classmethod
    def open(cls, url: BrokerUrl, host: Host, name: str) -> BlockingConnection:
        """Connect to one host.

        :raises AuthenticationError: the credentials were refused
        :raises VirtualHostError: the virtual host was refused
        :raises ConnectError: anything else, a timeout (`url.connect_timeout`) included
        :raises BrokerUrlError: the URL's TLS files cannot be used
        """
        pika_wire.quiet_pika()
        parameters = pika_wire.parameters(url, host, name)
        try:
            return cls(pika.BlockingConnection(parameters, _SelectConnection))
        except Exception as error:
            # Of any type: a name that no host can have is a UnicodeError of Python's.
            raise pika_wire.connect_error(error, url, host) from error

    @property
    def is_open(self) -> bool:
        """True until this side notices that the connection is gone."""
        return bool(self._connection.is_open)

    @property
    def silence(self) -> float:
        """Seconds since the broker last showed that it processes publishes on this connection."""
        return time.monotonic() - self._last_answer

    def prepare(self) -> None:
        """Open the channel for publishes where there is none; it waits for the broker.

        :raises ChannelClosedError: the broker refused, or the connection was lost
        """
        if self._channel is not None and self._channel.is_open:
            return
        try:
            channel = self._connection.channel()
            channel.confirm_delivery()
        except _LOST as error:
            raise _closed(error) from error
        self._channel = channel

    def publish(self, message: Message) -> Verdict:
        """Write a message and wait for the broker's verdict, for as long as the connection lives.

        The message must have passed `check_writable`, and `prepare` come before it. One at a
        time: that is what pika offers here, and it leaves no doubt whose verdict it is.

        :raises HeadersTooLargeError: its headers do not fit a frame of this connection; nothing
            was written
        """
        if self._channel is None:
            raise AssertionError("publish before prepare")
        properties = pika_wire.EncodedProperties(message.properties)
        # Of pika's connection under it, which has no public way to tell; pika checks bodies alone.
        limit = self._connection._impl._body_max_length  # noqa: SLF001
        if properties.size > limit:
            raise too_large(message, properties.size, limit)
        try:
            self._channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                properties,
                mandatory=message.mandatory,
            )
        except exceptions.UnroutableError as error:
            verdict: Verdict = _returned(error)
        except exceptions.NackError:
            verdict = Nacked()
        except _LOST as error:
            return Gone(pika_wire.closed(error))
        else:
            verdict = Acked()
        self._last_answer = time.monotonic()
        return verdict

    def probe(self, stop: Callable[[], bool]) -> None:
        """Publish to nowhere; return when the broker answers, says 'blocked', or `stop()` is true.

        Not on a channel in confirm mode: pika would wait there for the confirm and tell nobody
        of 'blocked' meanwhile. On a plain one a mandatory message's return is the answer.

        :raises ChannelClosedError: the connection was lost
        """
        self._probe_answered = False
        try:
            if self._probe_channel is None or not self._probe_channel.is_open:
                self._probe_channel = self._connection.channel()
                self._probe_channel.add_on_return_callback(self._on_probe_returned)
            self._probe_channel.basic_publish(
                PROBE.exchange, PROBE.routing_key, PROBE.body, mandatory=True
            )
            while not (self._probe_answered or self.blocked or stop()):
                self._connection.process_data_events(None)
                if not self._probe_channel.is_open:
                    self.may_probe = False
                    return
        except _LOST as error:
            raise _closed(error) from error

    def pump(self, seconds: float) -> None:
        """Answer heartbeats and read from the broker, until `wake` is called or `seconds` passed.

        :raises ChannelClosedError: the connection was lost
        """
        try:
            self._connection.process_data_events(seconds)
        except _LOST as error:
            raise _closed(error) from error

    def wake(self) -> None:
        """End a `pump`, or make `probe` look at its `stop`; from any thread, at any time."""
        with contextlib.suppress(*_LOST):
            self._connection.add_callback_threadsafe(_nothing)

    def close(self) -> None:
        """Close the connection, and wait for the broker's answer."""
        with contextlib.suppress(*_LOST):
            if self._connection.is_open:
                self._connection.close()

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, _: Any, __: Any) -> None:
        self.blocked = None

    def _on_probe_returned(self, *_: Any) -> None:
        self._probe_answered = True
        self._last_answer = time.monotonic()


def _returned(error: exceptions.UnroutableError) -> Returned:
    message = error.messages[0]
    return pika_wire.returned(message.method, message.properties)


def _closed(error: BaseException) -> ChannelClosedError:
    why = pika_wire.closed(error)
    return ChannelClosedError(why.code, why.text)


def _nothing() -> None:
    """Do nothing, as the callback that ends a `pump`."""
