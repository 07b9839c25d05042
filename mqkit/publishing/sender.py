"""The way of one publish: wait until it may be written, write it, judge the broker's verdict.

Unknown verdicts (the connection was lost before the confirm) are answered by writing the
message again under the same message id, until the caller's deadline.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from mqkit.broker.connection import Connection
from mqkit.drivers.base import Acked, Closed, Gone, Nacked, Returned, Verdict
from mqkit.errors import ChannelClosedError, PublishError, PublishRefusedError
from mqkit.message import Message
from mqkit.publishing.channel import Progress, PublishChannel, Stage
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.publishing.verdicts import (
    HARMLESS_CODES,
    NOT_FOUND,
    is_about_an_exchange,
    nacked,
    publish_error,
    refusal,
    unroutable,
)
from mqkit.publishing.window import Deadlines, Waiter, Window


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """No verdict came in time: nobody knows whether the message is stored."""


class Sender:
    """Sends messages over one connection, in one confirm channel that is replaced when it dies."""

    def __init__(self, connection: Connection, *, window: int) -> None:
        self._window = Window(window)
        self._deadlines: Deadlines[Verdict | Unconfirmed] = Deadlines(Unconfirmed())
        self._channel = PublishChannel(connection, ConfirmChannel.open)
        self._one_at_a_time = asyncio.Lock()

    async def send(self, message: Message, seconds: float, began: float | None = None) -> None:
        """Return once `message` is confirmed; raises as `Publisher.publish` says.

        :param seconds: what it is given from when it `began`, on the monotonic clock: now, if None
        """
        if began is not None:
            left = began + seconds - time.monotonic()
            await self._send(message, seconds, Progress(), left=left)
            return
        began = time.monotonic()
        verdict: asyncio.Future[Verdict | Unconfirmed] = asyncio.get_running_loop().create_future()
        if not self.write(message, seconds, verdict):
            await self._send(message, seconds, Progress())
            return
        try:
            known = await verdict
        finally:
            self._window.release()
        if not isinstance(known, Acked):
            await self.resend(message, known, seconds, began)

    def write(
        self, message: Message, seconds: float, waiter: Waiter[Verdict | Unconfirmed]
    ) -> bool:
        """Write it now, if nothing is to be waited for; `waiter` has a verdict within `seconds`.

        Then its place in the window is taken until `release`. False: `send` it.

        :raises InvalidMessageError: it cannot be encoded; nothing was written
        """
        channel = self._channel.open_for(message)
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
        """Be told that the verdict of a `write` is known, or waited for no more."""
        self._window.release()

    async def resend(
        self, message: Message, known: Verdict | Unconfirmed, seconds: float, began: float
    ) -> None:
        """Send it to its end, whose first verdict was not that it is stored.

        :param seconds: what it was given when it `began`, on the monotonic clock
        """
        progress = Progress(Stage.CONFIRM, written=True)
        if isinstance(known, Unconfirmed):
            raise self._channel.deadline_passed(message, progress, seconds)
        left = began + seconds - time.monotonic()
        await self._send(message, seconds, progress, known, left)

    async def _send(
        self,
        message: Message,
        seconds: float,
        progress: Progress,
        known: Verdict | None = None,
        left: float | None = None,
    ) -> None:
        try:
            async with asyncio.timeout(seconds if left is None else left):
                await self._window.acquire()
                try:
                    await self._until_known(message, progress, known)
                finally:
                    self._window.release()
        except TimeoutError:
            raise self._channel.deadline_passed(message, progress, seconds) from None
        except PublishError as error:
            # Whatever the broker says of the message now: it may have taken it before.
            error.may_be_stored = error.may_be_stored or progress.lost
            raise

    async def close(self) -> None:
        """Refuse further messages and close the channels; what is in flight is not awaited."""
        await self._channel.close()

    async def _until_known(
        self, message: Message, progress: Progress, known: Verdict | None
    ) -> None:
        while not await self._is_stored(message, known, progress):
            channel = await self._channel.ready(message, progress)
            try:
                verdict = channel.write(message)
            except ChannelClosedError:
                known = None
                continue
            progress.written, progress.stage = True, Stage.CONFIRM
            known = await verdict

    async def _is_stored(self, message: Message, known: Verdict | None, progress: Progress) -> bool:
        """Whether the verdict says so; if not, the message is to be written, or written again."""
        match known:
            case None:
                return False
            case Acked():
                return True
            case Nacked():
                raise nacked(message)
            case Returned() as returned:
                raise unroutable(message, returned)
            case Gone(why) if why.code in HARMLESS_CODES:
                progress.lost = True
                return False
            case Gone(why):
                return await self._after_channel_error(message, why)

    async def _after_channel_error(self, message: Message, why: Closed) -> bool:
        """The broker closed the channel over some publish: was it this one? True if now stored.

        Where its text does not tell, each publish that was in flight is sent again alone, and the
        guilty one found.
        """
        if (error := refusal(message, why)) is not None:
            self._channel.forget_exchange(message.exchange)
            # The exchange was there when this was written, or nothing would have been: it may
            # have taken the message before it went, and the confirm was lost with the channel.
            error.may_be_stored = why.code == NOT_FOUND
            raise error
        if is_about_an_exchange(why):
            self._channel.forget_exchange(message.exchange)
            return False
        async with self._one_at_a_time:
            try:
                async with self._channel.extra_channel() as channel:
                    confirms = await ConfirmChannel.open(channel)
                    verdict = await confirms.write(message)
            except ChannelClosedError:
                return False
            if isinstance(verdict, Gone) and verdict.why.code not in HARMLESS_CODES:
                raise publish_error(PublishRefusedError, message, verdict.why.text)
            if isinstance(verdict, Returned):
                raise unroutable(message, verdict)
            return isinstance(verdict, Acked)
