"""The way of one publish: wait until it may be written, write it, judge the broker's verdict.

Unknown verdicts (the connection was lost before the confirm) are answered by writing the
message again under the same message id, until the caller's deadline.
"""

from __future__ import annotations

import asyncio

from mqkit.confirms import Acked, ConfirmChannel, Gone, Nacked
from mqkit.connection import Connection
from mqkit.drivers.base import Closed, Returned
from mqkit.errors import ChannelClosedError, PublishError, PublishRefusedError
from mqkit.gate import Gate, Progress, Stage
from mqkit.message import Message
from mqkit.publish_errors import (
    HARMLESS_CODES,
    NOT_FOUND,
    is_about_an_exchange,
    nacked,
    publish_error,
    refusal,
    unroutable,
)


class Sender:
    """Sends messages over one connection, in one confirm channel that is replaced when it dies."""

    def __init__(self, connection: Connection, *, window: int) -> None:
        self._window = asyncio.Semaphore(window)
        self._gate = Gate(connection, ConfirmChannel.open)
        self._one_at_a_time = asyncio.Lock()

    async def send(self, message: Message, seconds: float) -> None:
        """Return once `message` is confirmed; raises as `Publisher.publish` says."""
        progress = Progress()
        try:
            async with asyncio.timeout(seconds), self._window:
                await self._until_known(message, progress)
        except TimeoutError:
            raise self._gate.deadline_passed(message, progress, seconds) from None
        except PublishError as error:
            # Whatever the broker says of the message now: it may have taken it before.
            error.may_be_stored = error.may_be_stored or progress.lost
            raise

    async def close(self) -> None:
        """Refuse further messages and close the channels; what is in flight is not awaited."""
        await self._gate.close()

    async def _until_known(self, message: Message, progress: Progress) -> None:
        while True:
            channel = await self._gate.ready(message, progress)
            try:
                verdict = channel.write(message)
            except ChannelClosedError:
                continue
            progress.written, progress.stage = True, Stage.CONFIRM
            match await verdict:
                case Acked():
                    return
                case Nacked():
                    raise nacked(message)
                case Returned() as returned:
                    raise unroutable(message, returned)
                case Gone(why) if why.code in HARMLESS_CODES:
                    progress.lost = True
                    continue
                case Gone(why):
                    if await self._after_channel_error(message, why):
                        return

    async def _after_channel_error(self, message: Message, why: Closed) -> bool:
        """The broker closed the channel over some publish: was it this one? True if now stored.

        Where its text does not tell, each publish that was in flight is sent again alone, and the
        guilty one found.
        """
        if (error := refusal(message, why)) is not None:
            self._gate.forget_exchange(message.exchange)
            # The exchange was there when this was written, or nothing would have been: it may
            # have taken the message before it went, and the confirm was lost with the channel.
            error.may_be_stored = why.code == NOT_FOUND
            raise error
        if is_about_an_exchange(why):
            self._gate.forget_exchange(message.exchange)
            return False
        async with self._one_at_a_time:
            try:
                async with self._gate.extra_channel() as channel:
                    confirms = await ConfirmChannel.open(channel)
                    verdict = await confirms.write(message)
            except ChannelClosedError:
                return False
            if isinstance(verdict, Gone) and verdict.why.code not in HARMLESS_CODES:
                raise publish_error(PublishRefusedError, message, verdict.why.text)
            if isinstance(verdict, Returned):
                raise unroutable(message, verdict)
            return isinstance(verdict, Acked)
