"""Asks a broker for queues by AMQP alone, where there is no management API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mqkit.broker.connection import Connection
from mqkit.broker.declare import CONNECTION_FORCED
from mqkit.clock import monotonic
from mqkit.drivers.base import DriverChannel
from mqkit.errors import ChannelClosedError
from mqkit.overview.queues import Listed

AT_ONCE = 50
"""Declarations that wait for their answer at a time."""

LOOK_AGAIN = 60.0
"""Seconds until a queue is asked for again that was not there: each time costs a channel, and is a
line in the broker's log."""


class PassiveListing:
    """Lists queues by passive declarations, on one channel as long as that lives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: DriverChannel | None = None
        self._missing: dict[str, float] = {}

    async def look(self, names: Sequence[str]) -> list[Listed]:
        """Return those of these queues that are there, and that this user may see.

        :raises ChannelClosedError: the connection was lost meanwhile
        """
        now = monotonic()
        asked = [name for name in names if now >= self._missing.get(name, 0.0)]
        found: list[Listed] = []
        for start in range(0, len(asked), AT_ONCE):
            found += await self._some(asked[start : start + AT_ONCE])
        return found

    async def _some(self, names: Sequence[str]) -> list[Listed]:
        """Ask for some at once, or one by one where one of them closes the channel."""
        channel = await self._open()
        answers = await asyncio.gather(
            *(channel.declare_queue(name, passive=True) for name in names), return_exceptions=True
        )
        found = []
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, BaseException):
                found += await self._one(name)
            else:
                self._missing.pop(name, None)
                found.append(Listed(answer.name, answer.messages, answer.consumers))
        return found

    async def _one(self, name: str) -> list[Listed]:
        channel = await self._open()
        try:
            state = await channel.declare_queue(name, passive=True)
        except ChannelClosedError as error:
            if error.code in (0, CONNECTION_FORCED):
                raise
            self._missing[name] = monotonic() + LOOK_AGAIN
            return []
        self._missing.pop(name, None)
        return [Listed(state.name, state.messages, state.consumers)]

    async def _open(self) -> DriverChannel:
        if self._channel is None or not self._channel.is_open:
            self._channel = await self._connection.channel()
        return self._channel
