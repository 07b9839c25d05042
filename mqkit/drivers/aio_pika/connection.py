"""The connection of the aio-pika driver: an aiormq connection with channels of mqkit's own.

What channels write goes through aiormq's own queue to the socket, in order and by one task, not
one for each message; and what comes for them is handed over by aiormq's reader. Nothing waits for
the socket: how much can be unsent is bounded by those who write, with the publisher's window of
unconfirmed messages and the consumer's prefetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Self, cast

from aiormq.abc import AbstractConnection, ChannelFrame
from pamqp import commands

from mqkit.drivers.aio_pika import convert
from mqkit.drivers.aio_pika.channel import AioPikaChannel
from mqkit.drivers.base import Closed, DriverConnection
from mqkit.drivers.common import BY_US, CLOSE_TIMEOUT, NOT_OPEN, product
from mqkit.errors import ChannelClosedError, ConfigurationError
from mqkit.logging.error_reports import describe, log_error

logger = logging.getLogger(__name__)

CHANNEL_MAX = 65535
"""Channels of a connection whose broker sets no limit (AMQP 0-9-1, section 1.4.2.5)."""

BLOCKED_BEFORE = "it was blocked before mqkit came to it"


class AioPikaConnection(DriverConnection):
    """An open aiormq connection as one of its users sees it; `close` closes that user's channels.

    The aiormq connection may have other users, and channels that are not mqkit's.
    """

    def __init__(
        self, connection: AbstractConnection, on_blocked: Callable[[str | None], None]
    ) -> None:
        self._aiormq = connection
        self._alarms = Alarms.of(connection)
        self._on_blocked = on_blocked
        self._closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._channels: dict[AioPikaChannel, None] = {}
        self._unwritten: list[bytes] = []
        self._to_free: list[AioPikaChannel] = []
        self._left: asyncio.Future[None] | None = None
        self._anything = asyncio.Event()
        self._server = product(connection.server_properties)
        self._gone = connection.closing
        self._gone.add_done_callback(self._on_gone)
        self._writing = asyncio.create_task(self._write(), name="mqkit aio-pika writer")
        self._writing.add_done_callback(self._on_writing_done)
        self._alarms.add(on_blocked)

    @property
    def server(self) -> str:
        return self._server

    @property
    def closed(self) -> asyncio.Future[Closed]:
        return self._closed

    @property
    def frame_max(self) -> int:
        return int(self._aiormq.connection_tune.frame_max or 0)

    async def channel(self) -> AioPikaChannel:
        if self._closed.done():
            raise NOT_OPEN.error()
        channel = AioPikaChannel(self, self._free_number())
        self._channels[channel] = None
        self.keep(channel)
        await channel.open()
        return channel

    async def close(self) -> None:
        await self._close_channels()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._written()
        self.end(Closed(0, BY_US))

    def write(self, data: bytes) -> None:
        """Hand whole frames to the transport, in the order of the calls."""
        self._unwritten.append(data)
        self._anything.set()

    def keep(self, channel: AioPikaChannel) -> None:
        """Keep the number for this channel, which gets what comes by it."""
        # To aiormq a channel is something with `frames`.
        self._aiormq.channels[channel.number] = cast("Any", channel)

    def release(self, channel: AioPikaChannel) -> None:
        """Free the number; a channel that is opened under it comes after what was written."""
        self._to_free.append(channel)
        self._anything.set()

    def end(self, why: Closed) -> None:
        """Mark connection and channels as closed; the aiormq connection is left as it is."""
        if self._closed.done():
            return
        self._closed.set_result(why)
        self._alarms.discard(self._on_blocked)
        self._writing.cancel()
        self._gone.remove_done_callback(self._on_gone)
        # The number of a channel whose close is not answered stays taken: the answer would reach
        # the channel of somebody else. aiormq frees it when the answer comes.
        for channel in self._channels:
            channel.end(why)
        self._channels.clear()
        if not self._gone.done():
            self._gone.cancel()  # an observer of our own; it would wait in aiormq for ever

    async def _close_channels(self) -> None:
        closing = [channel.close() for channel in self._channels if not channel.closed.done()]
        await asyncio.gather(*closing)

    async def look_for_alarms(self) -> None:
        """Call `on_blocked` if the connection is blocked already."""
        await self._alarms.look(self._aiormq)

    async def _written(self) -> None:
        """Wait until aiormq has given all that was written to the transport.

        It forgets what is in its queue when it closes.
        """
        self._left = asyncio.get_running_loop().create_future()
        self._anything.set()
        either: list[asyncio.Future[Any]] = [self._left, self._closed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def _free(self, channel: AioPikaChannel) -> None:
        self._channels.pop(channel, None)
        if self._aiormq.channels.get(channel.number) is cast("Any", channel):
            del self._aiormq.channels[channel.number]

    def _free_number(self) -> int:
        limit = self._aiormq.connection_tune.channel_max or CHANNEL_MAX
        for number in range(1, limit + 1):
            if number not in self._aiormq.channels:
                return number
        raise ChannelClosedError(0, f"all {limit} channels of the connection are in use")

    async def _write(self) -> None:
        while True:
            await self._anything.wait()
            self._anything.clear()
            batch, self._unwritten = self._unwritten, []
            to_free, self._to_free = self._to_free, []
            left, self._left = self._left, None
            await self._aiormq.write_queue.put(
                ChannelFrame(payload=b"".join(batch), should_close=False, drain_future=left)
            )
            for channel in to_free:
                self._free(channel)

    def _on_writing_done(self, writing: asyncio.Task[None]) -> None:
        if not writing.cancelled() and (error := writing.exception()) is not None:
            log_error(logger, logging.CRITICAL, "writing to the broker failed", error=error)
            self.end(Closed(0, f"writing failed: {error}"))

    def _on_gone(self, gone: asyncio.Future[Any]) -> None:
        self.end(convert.closed(None if gone.cancelled() else gone.exception()))


class OwnedConnection(AioPikaConnection):
    """A connection that mqkit closes, since nobody else uses it."""

    def __init__(
        self, connection: AbstractConnection, on_blocked: Callable[[str | None], None]
    ) -> None:
        super().__init__(connection, on_blocked)
        self._closing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await asyncio.shield(self._start_to_close())

    def _start_to_close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="mqkit aio-pika close")
        return self._closing

    async def _close(self) -> None:
        """Send `connection.close` after all else; drop the stream if it is not answered."""
        goodbye = asyncio.ensure_future(self._say_goodbye())
        goodbye.add_done_callback(self._on_goodbye)
        await asyncio.wait([goodbye], timeout=CLOSE_TIMEOUT)
        self._drop()
        await asyncio.wait([goodbye], timeout=CLOSE_TIMEOUT)
        self.end(Closed(0, BY_US))

    async def _say_goodbye(self) -> None:
        # RabbitMQ (4.0.5, 4.3.6) forgets acks that it has not looked at when it is told to close
        # the connection; a channel that is closed first has dealt with its own.
        await self._close_channels()
        await self._written()
        await self._close_library()

    @staticmethod
    def _on_goodbye(goodbye: asyncio.Future[None]) -> None:
        if not goodbye.cancelled() and (error := goodbye.exception()) is not None:
            text = "closing a connection failed, and its stream is dropped: %s"
            logger.warning(text, describe(error))

    async def _close_library(self) -> None:
        await self._aiormq.close()

    def _drop(self) -> None:
        """Drop the stream, where this side has it."""


class Alarms:
    """Calls listeners at `connection.blocked` and `unblocked`, which aiormq (7.2.4) does not.

    It stands in the place of aiormq's two handlers on one connection object, and calls them.
    """

    BLOCKED = "_Connection__handle_connection_blocked"
    UNBLOCKED = "_Connection__handle_connection_unblocked"

    def __init__(self, connection: AbstractConnection) -> None:
        try:
            self._handle_blocked = getattr(connection, self.BLOCKED)
            self._handle_unblocked = getattr(connection, self.UNBLOCKED)
        except AttributeError as error:
            raise ConfigurationError(
                f"aiormq {version('aiormq')} lacks the place where mqkit hears of the broker's "
                "alarms; use aiormq 7, or mqkit's pika driver"
            ) from error
        self._listeners: list[Callable[[str | None], None]] = []
        self._reason: str | None = None
        setattr(connection, self.BLOCKED, self._on_blocked)
        setattr(connection, self.UNBLOCKED, self._on_unblocked)

    @classmethod
    def of(cls, connection: AbstractConnection) -> Self:
        """Return the one of this connection, which is made where there is none yet."""
        present = getattr(getattr(connection, cls.BLOCKED, None), "__self__", None)
        return present if isinstance(present, cls) else cls(connection)

    def add(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` from now on; also at once, if the connection is blocked."""
        self._listeners.append(listener)
        if self._reason is not None:
            listener(self._reason)

    def discard(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def look(self, connection: AbstractConnection) -> None:
        """Call the listeners if it is blocked already; aiormq does not keep the reason."""
        try:
            async with asyncio.timeout(0):
                await connection.ready()
        except TimeoutError:
            self._tell(self._reason or BLOCKED_BEFORE)

    async def _on_blocked(self, frame: commands.Connection.Blocked) -> None:
        await self._handle_blocked(frame)
        self._tell(str(frame.reason))

    async def _on_unblocked(self, frame: commands.Connection.Unblocked) -> None:
        await self._handle_unblocked(frame)
        self._tell(None)

    def _tell(self, reason: str | None) -> None:
        self._reason = reason
        for listener in tuple(self._listeners):
            listener(reason)
