"""A message that takes part in a group: its handler runs in its own task when its turn comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mqkit.message import Delivery
from mqkit.store.database.slots import Held, Within, held_now
from mqkit.store.transaction import Transaction


class MemberLeftError(Exception):
    """Says that a message's task was cancelled: what its handler did must not be committed."""


@dataclass(slots=True)
class _Turn:
    """Lends a member the transaction of its group."""

    transaction: Transaction
    held: Held
    given: float
    """When, by the event loop's clock."""
    ended: asyncio.Future[Any]
    """Its result, or the error of its handler."""


@dataclass(slots=True)
class _End:
    """Tells a member that what it did is committed, now or before."""

    result: Any


class Member:
    """Connects the task that waits for a message's result and the one that runs its group.

    The handler runs in the former, so that its context, its middleware and its cancelling are those
    that it has without a group; the latter lends it the transaction meanwhile.
    """

    def __init__(
        self,
        delivery: Delivery,
        run: Callable[[Transaction], Awaitable[Any]],
        on_ran: Callable[[], None],
    ) -> None:
        """Wait for a turn.

        :param on_ran: is called whenever its handler has run
        """
        self.delivery = delivery
        self._on_ran = on_ran
        self._run = run
        self._next: asyncio.Future[_Turn | _End] = asyncio.get_running_loop().create_future()
        self.has_left = False
        """Whether its task was cancelled, and nobody waits for its result."""
        self.is_over = False
        """Whether it was told its result or its error."""
        self.seconds: float | None = None
        """How long its handler ran, the last time."""
        self.lag = 0.0
        """Seconds that passed until its task came to its turn: one turn of the event loop."""

    async def take_part(self) -> Any:
        """Run the handler, as often as it gets a turn, and return its result once committed.

        :raises Exception: what `fail` was given
        """
        while True:
            try:
                step = await self._next
            except asyncio.CancelledError:
                self._leave()
                raise
            if isinstance(step, _End):
                return step.result
            self._next = asyncio.get_running_loop().create_future()
            await self._take_turn(step)

    async def _take_turn(self, turn: _Turn) -> None:
        self.lag = asyncio.get_running_loop().time() - turn.given
        try:
            with Within(turn.held):
                result = await self._run(turn.transaction)
                await turn.transaction.flush_session()
        except Exception as error:  # noqa: BLE001 - who runs the group tells whose it is
            if not turn.ended.done():
                turn.ended.set_exception(error)
        except BaseException:
            self.has_left = True
            if not turn.ended.done():
                turn.ended.set_exception(MemberLeftError())
            raise
        else:
            if not turn.ended.done():  # else who runs the group was cancelled, and rolled back
                turn.ended.set_result(result)

    def _leave(self) -> None:
        self.has_left = True
        if self._next.cancelled() or self._next.exception() is not None:
            return
        step = self._next.result()
        if isinstance(step, _Turn):  # cancelled right when it got it
            step.ended.set_exception(MemberLeftError())

    async def turn(self, transaction: Transaction) -> Any:
        """Let the handler run with a transaction, and return its result; who runs the group calls.

        :raises MemberLeftError: its task was cancelled, before or in its run
        :raises Exception: what the handler raised
        """
        if self.has_left:
            raise MemberLeftError
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        began = loop.time()
        self._next.set_result(_Turn(transaction, held_now(), began, ended))
        try:
            return await ended
        finally:
            self.seconds = loop.time() - began
            self._on_ran()
            transaction.end()
            del ended  # it holds the error, whose traceback holds this frame

    def end(self, result: Any) -> None:
        """Tell it that it is committed; it may have been so before."""
        if not (self.has_left or self.is_over):
            self._next.set_result(_End(result))
        self.is_over = True

    def fail(self, error: BaseException) -> None:
        """Tell it what its run came to, unless it was told before."""
        if not (self.has_left or self.is_over):
            self._next.set_exception(error)
        self.is_over = True
