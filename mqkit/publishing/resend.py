"""Writes a message, and writes it again until the broker's verdict on it is known.

Where a channel was lost before the verdict, nobody knows whether the message is stored: it is
written again under the same message id.

What is written for a message that is published later enters the broker's ladder; it is made anew
each time, for its delay has become shorter.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from mqkit.broker.connection import Connection
from mqkit.broker.later import LaterLadder, entry, seconds_left
from mqkit.clock import Clock, monotonic
from mqkit.drivers.base import Verdict
from mqkit.errors import (
    ChannelClosedError,
    ExchangeNotFoundError,
    PublishError,
    PublishRefusedError,
    TopologyError,
    UnroutableError,
)
from mqkit.message import Message
from mqkit.outcome import MAX_DELAY
from mqkit.publishing.channel import PublishChannel
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.publishing.verdicts import (
    HARMLESS_CODES,
    Doubt,
    Progress,
    Stage,
    judge,
    publish_error,
)


class Resender:
    """Writes messages on a publish channel, without a deadline of its own."""

    def __init__(self, channel: PublishChannel[ConfirmChannel], later: Later) -> None:
        self._channel = channel
        self._later = later
        self._one_at_a_time = asyncio.Lock()

    async def until_stored(
        self, message: Message, progress: Progress, verdict: Verdict | None
    ) -> None:
        """Write a message, and again while its verdict is in doubt; return once it is stored.

        :param verdict: the broker's on the first write, which was before; None if there was none
        :raises PublishError: the broker does not take it
        """
        written = message
        while verdict is None or not await self._is_stored(message, written, verdict, progress):
            if message.due is None:
                verdict = await self._write(message, progress)
            else:
                written, verdict = await self._hold(message, progress)

    async def _hold(self, message: Message, progress: Progress) -> tuple[Message, Verdict | None]:
        """Write what enters the ladder for a message; return that, and its verdict if it was sent.

        :raises PublishError: as `until_stored`
        """
        await self._channel.ready(message, progress)
        progress.stage = Stage.LADDER
        written = await self._later.written(message)
        try:
            return written, await self._write(written, progress)
        except ExchangeNotFoundError as error:
            if written.exchange == message.exchange:
                raise
            self._hold_again(message, error, progress)
            return written, None

    async def _write(self, message: Message, progress: Progress) -> Verdict:
        _, confirm = await self._channel.write_when_ready(
            message, progress, lambda channel: channel.write(message)
        )
        return await confirm

    async def _is_stored(
        self, message: Message, written: Message, verdict: Verdict, progress: Progress
    ) -> bool:
        """Judge a verdict; False if the message is to be written again.

        :param written: what the verdict is on: the message, or what enters the ladder for it
        :raises PublishError: the broker does not take it
        """
        judgement = judge(written, verdict)
        if judgement is Doubt.SUSPECT:
            judgement = await self._send_alone(written)
            # Refused alone, it is what the channel closed over. Else its first verdict was lost.
            progress.lost = progress.lost or not isinstance(judgement, PublishRefusedError)
        if judgement is None:
            return True
        if isinstance(judgement, PublishError):
            if written.exchange != message.exchange:
                self._hold_again(message, judgement, progress)
                return False
            if not isinstance(judgement, ExchangeNotFoundError):
                raise judgement
            self._channel.exchanges.forget(message.exchange)
            if not self._channel.exchanges.declares(message.exchange):
                raise judgement
            # It was deleted since: it is declared again, and the message written again.
            progress.lost = progress.lost or judgement.may_be_stored
            return False
        progress.lost = True
        return False

    def _hold_again(self, message: Message, error: PublishError, progress: Progress) -> None:
        """Have the ladder declared again, as a part of it was gone, if that may be why.

        :raises PublishError: it is not, or was done for this message before
        """
        self._later.forget()
        if isinstance(error, ExchangeNotFoundError | UnroutableError) and not progress.held_again:
            self._channel.exchanges.forget(error.exchange)
            progress.held_again = True
            progress.lost = progress.lost or error.may_be_stored
            return
        of_message = publish_error(type(error), message, f"held until it is due: {error.problem}")
        of_message.may_be_stored = error.may_be_stored
        raise of_message from error

    async def _send_alone(self, message: Message) -> PublishError | Doubt | None:
        """Write a message on a channel of its own, and judge it by that channel's fate.

        Where the broker closed a channel and its text does not tell over what, each publish that
        was in flight is sent again alone, and so the guilty one is found.
        """
        async with self._one_at_a_time:
            try:
                async with self._channel.extra_channel() as channel:
                    confirms = await ConfirmChannel.open(channel)
                    verdict = await confirms.write(message)
            except ChannelClosedError:
                return Doubt.LOST
        return judge(message, verdict, alone=True)


class Later:
    """Lets messages into the ladder of one connection; `clock` says how long they are held."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._ladder = LaterLadder(connection)
        self._clock = clock

    def written_now(self, message: Message) -> Message | None:
        """Return what is to be written for a message; None if the ladder must be declared before.

        A message that is due is written as it is.
        """
        delay = self._delay(message)
        if not delay:
            return message if message.due is None else replace(message, due=None)
        return entry(message, delay) if self._ladder.is_ready(message, delay) else None

    async def written(self, message: Message) -> Message:
        """Return what is to be written for a message, once what that takes is declared.

        :raises PublishRefusedError: this user may not declare it, and it is not there
        """
        while (found := self.written_now(message)) is None:
            try:
                await self._ladder.declare(message, self._delay(message))
            except TopologyError as error:
                raise publish_error(PublishRefusedError, message, str(error)) from error
            except ChannelClosedError as error:
                if error.code not in HARMLESS_CODES:
                    raise publish_error(PublishRefusedError, message, error.text) from error
        return found

    def forget(self) -> None:
        """Declare everything again before the next message, for some of it was deleted."""
        self._ladder.forget()

    def _delay(self, message: Message) -> float:
        if message.due is None:
            return 0.0
        if message.due_after is not None:
            return min(max(message.due_after - monotonic(), 0.0), MAX_DELAY)
        return seconds_left(message.due, self._clock())
