"""The confirm channel that messages may be written to.

`PublishChannel` opens it and replaces it when it dies. Before a message is written it waits for the
connection, for an alarm to end, and for what the write could harm to be ruled out: a missing
exchange would close the channel under all else that is in flight on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from mqkit.broker.connection import Connection
from mqkit.clock import monotonic
from mqkit.drivers.base import DriverChannel, Gone, Verdict
from mqkit.errors import (
    AuthenticationError,
    ChannelClosedError,
    ConnectError,
    PublisherClosedError,
    PublishError,
    VirtualHostError,
)
from mqkit.logging.shown import shown
from mqkit.message import Message
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.publishing.exchanges import Exchanges
from mqkit.publishing.probe import PROBE, PROBE_AFTER, log_refused_probe
from mqkit.publishing.single_flight import SingleFlight
from mqkit.publishing.verdicts import (
    HARMLESS_CODES,
    Progress,
    Stage,
    deadline_passed,
    publish_error,
)

logger = logging.getLogger(__name__)

REOPEN_WAIT = 0.1
"""Seconds before a channel is asked for again where the broker just closed one."""


C = TypeVar("C", bound=ConfirmChannel)
_Opened = TypeVar("_Opened", bound=ConfirmChannel)


class PublishChannel(Generic[C]):
    """Holds the confirm channel of a connection, and opens another one when it dies.

    `open_channel` makes of a new driver channel what the messages are written to.
    """

    def __init__(
        self,
        connection: Connection,
        exchanges: Exchanges,
        open_channel: Callable[[DriverChannel], Awaitable[C]],
    ) -> None:
        self._connection = connection
        self.exchanges = exchanges
        self._open = open_channel
        self._current: C | None = None
        self._probe_channel: ConfirmChannel | None = None
        self._may_probe = True
        self._known_exchanges = exchanges.known
        self._opening: SingleFlight[C] = SingleFlight()
        self._asking: SingleFlight[None] = SingleFlight()
        self._closing_channels: set[asyncio.Task[None]] = set()
        self._closed = False

    def open_for(self, message: Message) -> C | None:
        """Return the channel if a message may be written now; None if it has to wait."""
        channel = self._current
        if (
            channel is None
            or self._closed
            or not channel.is_open
            or self._connection.blocked is not None
            or (message.exchange and message.exchange not in self._known_exchanges)
            or (
                self._may_probe
                # First, for it mostly settles it: the latest confirm may be the probe channel's.
                and channel.now() - channel.last_confirm > PROBE_AFTER
                and self._seconds_since_confirm() > PROBE_AFTER
            )
        ):
            return None
        return channel

    async def write_when_ready(
        self,
        message: Message,
        progress: Progress,
        write: Callable[[C], asyncio.Future[Verdict]],
    ) -> tuple[C, asyncio.Future[Verdict]]:
        """Wait until a message may be written, and write it; return the channel and its verdict.

        The channel is open, its connection takes messages, and the broker knows the exchange.

        :raises ExchangeNotFoundError: there is no such exchange
        :raises ExchangeMismatchError: it is declared otherwise
        :raises PublisherClosedError: it or the connection was closed
        :raises InvalidMessageError: the message cannot be encoded
        """
        while True:
            channel = await self.ready(message, progress)
            try:
                verdict = write(channel)
            except ChannelClosedError:
                continue
            progress.written, progress.stage = True, Stage.CONFIRM
            return channel, verdict

    @contextlib.asynccontextmanager
    async def extra_channel(self) -> AsyncIterator[DriverChannel]:
        """Open a channel for one question, and close it without awaiting the answer to that.

        A caller whose deadline passed does not stay for it, and must not leave the channel open.
        """
        channel = await self._connection.channel()
        try:
            yield channel
        finally:
            self._drop(channel)

    def deadline_passed(self, message: Message, progress: Progress, seconds: float) -> PublishError:
        """Make the error of a message that was not confirmed within so many seconds."""
        return deadline_passed(
            message,
            progress.stage,
            seconds,
            blocked=self._connection.blocked,
            written=progress.written,
            unreachable=self._connection.problem,
        )

    async def close(self) -> None:
        """Refuse further messages and close the channels; what is in flight is not awaited."""
        self._closed = True
        for channel in (self._current, self._probe_channel):
            if channel is not None and channel.is_open:
                await channel.close()

    async def ready(self, message: Message, progress: Progress) -> C:
        """Wait until a message may be written, and return the channel; see `write_when_ready`."""
        while True:
            progress.stage = Stage.CONNECTION
            channel = await self._open_channel(message)
            if self._connection.blocked is not None:
                progress.stage = Stage.BLOCKED
                await self._connection.unblocked()
            elif self._may_probe and self._seconds_since_confirm() > PROBE_AFTER:
                progress.stage = Stage.PROBE
                await self._asking.do(Stage.PROBE, self._probe)
            elif message.exchange and message.exchange not in self._known_exchanges:
                progress.stage = Stage.EXCHANGE
                problem = await self.exchanges.find(message, self.extra_channel)
                if problem is not None:
                    raise problem
            else:
                return channel

    async def _open_channel(self, message: Message) -> C:
        if self._current is not None and self._current.is_open and not self._closed:
            return self._current
        try:
            return await self._opening.do(None, self._replace_channel)
        except (AuthenticationError, VirtualHostError):
            raise  # of the first connection, which this has asked for
        except ConnectError as error:
            raise publish_error(PublisherClosedError, message, str(error)) from error

    async def _replace_channel(self) -> C:
        while self._current is None or not self._current.is_open or self._closed:
            if self._closed:
                raise ConnectError("the publisher is closed")
            try:
                self._current = await self._new_channel(self._open)
            except ChannelClosedError as error:
                logger.warning(
                    "%s: the broker opens no channel to publish on: %s",
                    self._connection.name,
                    error,
                )
                await asyncio.sleep(REOPEN_WAIT)
            else:
                self.exchanges.forget()
                self._may_probe = True
        return self._current

    def _seconds_since_confirm(self) -> float:
        latest = float("-inf")
        for channel in (self._current, self._probe_channel):
            if channel is not None and channel.is_open:
                latest = max(latest, channel.last_confirm)
        return monotonic() - latest

    async def _probe(self) -> None:
        """Publish to nowhere, and return when that is confirmed or the broker says 'blocked'."""
        with contextlib.suppress(ChannelClosedError):
            if self._probe_channel is None or not self._probe_channel.is_open:
                self._probe_channel = await self._new_channel(ConfirmChannel.open)
            verdict = self._probe_channel.write(PROBE)
            blocked = asyncio.ensure_future(self._connection.blocking())
            either: list[asyncio.Future[Any]] = [verdict, blocked]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                blocked.cancel()
            if verdict.done() and isinstance(gone := verdict.result(), Gone):
                self._may_probe = gone.why.code in HARMLESS_CODES
                if not self._may_probe:
                    log_refused_probe(logger, self._connection.name, shown(gone.why.text))

    async def _new_channel(
        self, open_channel: Callable[[DriverChannel], Awaitable[_Opened]]
    ) -> _Opened:
        channel = await self._connection.channel()
        try:
            return await open_channel(channel)
        except BaseException:
            self._drop(channel)
            raise

    def _drop(self, channel: DriverChannel) -> None:
        if channel.is_open:
            closing = asyncio.create_task(channel.close())
            self._closing_channels.add(closing)
            closing.add_done_callback(self._closing_channels.discard)
