"""Writes a message, and writes it again until the broker's verdict on it is known.

Where a channel was lost before the verdict, nobody knows whether the message is stored: it is
written again under the same message id.
"""

from __future__ import annotations

import asyncio

from mqkit.drivers.base import Verdict
from mqkit.errors import (
    ChannelClosedError,
    ExchangeNotFoundError,
    PublishError,
    PublishRefusedError,
)
from mqkit.message import Message
from mqkit.publishing.channel import PublishChannel
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.publishing.verdicts import Doubt, Progress, judge


class Resender:
    """Writes messages on a publish channel, without a deadline of its own."""

    def __init__(self, channel: PublishChannel[ConfirmChannel]) -> None:
        self._channel = channel
        self._one_at_a_time = asyncio.Lock()

    async def until_stored(
        self, message: Message, progress: Progress, verdict: Verdict | None
    ) -> None:
        """Write a message, and again while its verdict is in doubt; return once it is stored.

        :param verdict: the broker's on the first write, which was before; None if there was none
        :raises PublishError: the broker does not take it
        """
        while verdict is None or not await self._is_stored(message, verdict, progress):
            _, confirm = await self._channel.write_when_ready(
                message, progress, lambda channel: channel.write(message)
            )
            verdict = await confirm

    async def _is_stored(self, message: Message, verdict: Verdict, progress: Progress) -> bool:
        """Judge a verdict; False if the message is to be written again.

        :raises PublishError: the broker does not take it
        """
        judgement = judge(message, verdict)
        if judgement is Doubt.SUSPECT:
            judgement = await self._send_alone(message)
            # Refused alone, it is what the channel closed over. Else its first verdict was lost.
            progress.lost = progress.lost or not isinstance(judgement, PublishRefusedError)
        if judgement is None:
            return True
        if isinstance(judgement, PublishError):
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
