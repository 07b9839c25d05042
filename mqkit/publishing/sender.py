"""Sends a message and waits for its confirm, for as long as its deadline allows.

A message that may be written at once is written, and its verdict awaited. All else (waiting for a
connection, an alarm's end or a place in the window; writing again after a loss) is in `resend`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mqkit.broker.connection import Connection
from mqkit.clock import Clock, monotonic, utc_now
from mqkit.drivers.base import Acked, Verdict
from mqkit.errors import (
    ChannelClosedError,
    ConnectError,
    ExchangeNotFoundError,
    PublishError,
)
from mqkit.message import Message
from mqkit.publishing.channel import PublishChannel
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.publishing.exchanges import Exchanges, declare_missing
from mqkit.publishing.resend import Later, Resender
from mqkit.publishing.verdicts import (
    HARMLESS_CODES,
    PRECONDITION_FAILED,
    Progress,
    Stage,
    exchange_not_found,
)
from mqkit.publishing.window import Deadlines, Waiter, Window
from mqkit.topology import Exchange


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Stands for the verdict that did not come in time: the message may be stored."""


class Sender:
    """Sends messages over one connection, in one confirm channel that is replaced when it dies."""

    def __init__(
        self,
        connection: Connection,
        exchanges: Exchanges,
        *,
        window: int,
        clock: Clock = utc_now,
    ) -> None:
        """Send nothing yet.

        :param window: how many messages may wait for their confirm at a time
        :param clock: says how long what is published later is held
        """
        self._window = Window(window)
        self._deadlines: Deadlines[Verdict | Unconfirmed] = Deadlines(Unconfirmed())
        self._channel = PublishChannel(connection, exchanges, ConfirmChannel.open)
        self._later = Later(connection, clock)
        self._resender = Resender(self._channel, self._later)

    async def send(self, message: Message, seconds: float, began: float | None = None) -> None:
        """Return once `message` is confirmed; raises as `Publisher.publish` says.

        :param seconds: what it is given from when it `began`, on the monotonic clock: now, if None
        """
        if began is not None:
            left = began + seconds - monotonic()
            await self._until_stored(message, seconds, Progress(), left=left)
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        verdict: asyncio.Future[Verdict | Unconfirmed] = loop.create_future()
        if not self.write(message, seconds, verdict):
            await self._until_stored(message, seconds, Progress())
            return
        try:
            known = await verdict
        finally:
            self._window.release()
        if not isinstance(known, Acked):
            await self.resend(message, known, seconds, began)

    async def send_declaring(self, message: Message, seconds: float, exchange: Exchange) -> None:
        """Send a message; where its exchange is not there, declare that and send it then."""
        began = monotonic()
        try:
            await self.send(message, seconds)
        except ExchangeNotFoundError as error:
            await self._declare(message, exchange, began + seconds, error)
            await self.send(message, seconds, began)

    async def _declare(
        self, message: Message, exchange: Exchange, end: float, missing: ExchangeNotFoundError
    ) -> None:
        try:
            async with asyncio.timeout(end - monotonic()):
                await declare_missing(exchange, self._channel.extra_channel)
        except ChannelClosedError as error:
            if error.code not in (*HARMLESS_CODES, PRECONDITION_FAILED):
                raise exchange_not_found(message, error.text) from error
            # Of another declaration somebody was quicker; of a lost connection the next one tells.
        except (ConnectError, TimeoutError) as error:
            raise missing from error

    def write(
        self, message: Message, seconds: float, waiter: Waiter[Verdict | Unconfirmed]
    ) -> bool:
        """Write a message now, if it need not wait; `waiter` has a verdict within `seconds`.

        Then its place in the window is taken until `release`. False: `send` it.

        :raises InvalidMessageError: it cannot be encoded; nothing was written
        """
        channel = self._channel.open_for(message)
        if message.due is not None and channel is not None:
            held = self._later.written_now(message)
            if held is None:
                return False
            message, channel = held, self._channel.open_for(held)
        if channel is None or not self._window.try_acquire():
            return False
        try:
            channel.write_for(message, waiter)
        except BaseException:
            self._window.release()
            raise
        self._deadlines.watch(waiter, seconds)
        return True

    def release(self) -> None:
        """Free the place in the window that a `write` took, once its verdict is known."""
        self._window.release()

    async def resend(
        self, message: Message, verdict: Verdict | Unconfirmed, seconds: float, began: float
    ) -> None:
        """Send again, where that helps, a message whose first verdict was not that it is stored.

        :param seconds: what it was given when it `began`, on the monotonic clock
        """
        progress = Progress(Stage.CONFIRM, written=True)
        if isinstance(verdict, Unconfirmed):
            raise self._channel.deadline_passed(message, progress, seconds)
        left = began + seconds - monotonic()
        if message.due is not None:
            # The verdict is on what the ladder was given, for a time that has passed.
            progress.lost = True
            await self._until_stored(message, seconds, progress, left=left)
        else:
            await self._until_stored(message, seconds, progress, verdict, left)

    async def idle(self) -> None:
        """Wait until every message that was given has its verdict."""
        await self._window.idle()

    async def close(self) -> None:
        """Refuse further messages and close the channels; what is in flight is not awaited."""
        try:
            await self._channel.close()
        finally:
            self._deadlines.close()

    async def _until_stored(
        self,
        message: Message,
        seconds: float,
        progress: Progress,
        verdict: Verdict | None = None,
        left: float | None = None,
    ) -> None:
        """Wait for a place in the window, then let the message be written until it is stored.

        :param left: how many of its `seconds` are left: all, if None
        """
        try:
            async with asyncio.timeout(seconds if left is None else left):
                await self._window.acquire()
                try:
                    await self._resender.until_stored(message, progress, verdict)
                finally:
                    self._window.release()
        except TimeoutError:
            raise self._channel.deadline_passed(message, progress, seconds) from None
        except PublishError as error:
            # Whatever the broker says of the message now: it may have taken it before.
            error.may_be_stored = error.may_be_stored or progress.lost
            raise
