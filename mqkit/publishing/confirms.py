"""Writes messages on a channel in confirm mode, and matches the broker's verdicts to them.

RabbitMQ confirms once a message is stored by every queue that it was routed to, and sends the
return of an unroutable one before its confirm (https://www.rabbitmq.com/docs/confirms).
"""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import Self

from mqkit.clock import loop_clock
from mqkit.drivers.base import Acked, Closed, DriverChannel, Gone, Nacked, Returned, Verdict
from mqkit.message import Header, Message
from mqkit.publishing.window import Waiter

_ACKED = Acked()
_NACKED = Nacked()


class ConfirmChannel:
    """Writes messages, and gives whoever waits for one the broker's verdict on it.

    A return is matched by a private header with the publish's number: two publishes with the
    same message id may be in flight, and each gets its own verdict.
    """

    def __init__(self, channel: DriverChannel) -> None:
        self._channel = channel
        self._pending: dict[int, Waiter[Verdict]] = {}
        self._returned: dict[int, Returned] = {}
        self._next = 1
        self.now = loop_clock()
        """The clock of `last_confirm`."""
        self.last_confirm = float("-inf")
        """When the broker last confirmed something here, on the monotonic clock."""
        self._loop = asyncio.get_running_loop()
        channel.closed.add_done_callback(self._on_closed)

    @classmethod
    async def open(cls, channel: DriverChannel) -> Self:
        """Put a new channel into confirm mode."""
        confirms = cls(channel)
        await channel.confirm_select(confirms._on_confirm, confirms._on_return)
        return confirms

    @property
    def is_open(self) -> bool:
        return self._channel.is_open

    def write(self, message: Message) -> asyncio.Future[Verdict]:
        """Hand the message to the transport; the future gets its verdict and never an exception.

        :raises InvalidMessageError: as `write_for`
        :raises ChannelClosedError: as `write_for`
        """
        verdict: asyncio.Future[Verdict] = self._loop.create_future()
        self.write_for(message, verdict)
        return verdict

    def write_for(self, message: Message, waiter: Waiter[Verdict]) -> None:
        """Hand the message to the transport; `waiter` gets its verdict, unless it is done before.

        :raises InvalidMessageError: it cannot be encoded; nothing was written
        :raises ChannelClosedError: the channel was closed before; nothing was written
        """
        number = self._channel.publish(message, {Header.PUBLISH: self._next})
        if number != self._next:
            raise AssertionError(f"publish number {number} where {self._next} was expected")
        self._next += 1
        self._pending[number] = waiter

    async def close(self) -> None:
        """Close the channel; what is pending gets `Gone`."""
        await self._channel.close()

    def _on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        self.last_confirm = self.now()
        if not multiple:
            self._settle(tag, acked)
            return
        for number in list(takewhile(lambda n: n <= tag, self._pending)):  # in their order
            self._settle(number, acked)

    def _settle(self, number: int, acked: bool) -> None:
        waiter = self._pending.pop(number, None)
        returned = self._returned.pop(number, None) if self._returned else None
        if waiter is not None and not waiter.done():
            waiter.set_result(returned or (_ACKED if acked else _NACKED))

    def _on_return(self, returned: Returned) -> None:
        number = returned.properties.headers.get(Header.PUBLISH)
        if isinstance(number, int):
            self._returned[number] = returned

    def _on_closed(self, closed: asyncio.Future[Closed]) -> None:
        gone = Gone(closed.result())
        pending, self._pending = self._pending, {}
        for waiter in pending.values():
            if not waiter.done():
                waiter.set_result(gone)
