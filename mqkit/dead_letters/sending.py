"""Publishes a message and waits for its confirm, and writes it once.

A `Publisher` writes a message again where its confirm is lost with the connection. Here that would
be one more copy: the message is a dead letter still, and the next run publishes it in any case.
"""

from __future__ import annotations

import asyncio

from mqkit.broker.connection import Connection
from mqkit.message import Message
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.publishing.verdicts import Doubt, Stage, connection_lost, deadline_passed, judge

TIMEOUT = 30.0
"""Seconds for a confirm, and for the end of an alarm before it."""


class SingleWrites:
    """Publishes one message after the other on a channel of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: ConfirmChannel | None = None

    async def send(self, message: Message) -> None:
        """Return once the message is confirmed.

        :raises InvalidMessageError: it cannot be encoded; nothing was written
        :raises PublishError: the broker refused it, blocks publishers or does not answer, or the
            connection was lost; its `may_be_stored` says whether it may be there
        """
        await self._unblocked(message)
        if self._channel is None or not self._channel.is_open:
            self._channel = await ConfirmChannel.open(await self._connection.channel())
        verdict = self._channel.write(message)
        try:
            async with asyncio.timeout(TIMEOUT):
                known = await verdict
        except TimeoutError:
            raise self._too_late(message, Stage.CONFIRM, written=True) from None
        problem = judge(message, known, alone=True)
        if isinstance(problem, Doubt):
            why = "the connection was lost before its confirm came; it may be stored"
            raise connection_lost(message, why, written=True)
        if problem is not None:
            raise problem

    async def _unblocked(self, message: Message) -> None:
        if self._connection.blocked is None:
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._connection.unblocked()
        except TimeoutError:
            raise self._too_late(message, Stage.BLOCKED, written=False) from None

    def _too_late(self, message: Message, stage: Stage, *, written: bool) -> Exception:
        blocked = self._connection.blocked
        return deadline_passed(message, stage, TIMEOUT, blocked=blocked, written=written)
