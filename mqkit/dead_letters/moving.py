"""Moves dead letters to another queue, or out of theirs: archived, restored, dropped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mqkit.dead_letters.audit import Audit
from mqkit.dead_letters.errors import DeadLetterMoveError
from mqkit.dead_letters.holding import Holding, Store, to_its_end
from mqkit.dead_letters.messages.filters import Filter
from mqkit.dead_letters.messages.letters import Letter
from mqkit.dead_letters.reader import Reader, Take
from mqkit.drivers.base import Incoming
from mqkit.errors import InvalidMessageError
from mqkit.logging.shown import shown
from mqkit.message import Message


@dataclass(slots=True)
class Moved:
    """What came of moving dead letters."""

    run: str
    """Names it in the audit."""
    moved: int = 0
    left: int = 0
    """Messages that were there at the beginning and still are."""


class Moving:
    """One run over a queue; each message is stored elsewhere before it is taken out."""

    def __init__(
        self, *, queue: str, chosen: Filter, audit: Audit, reading: Reading, store: Store | None
    ) -> None:
        """Move nothing yet.

        :param queue: whose dead letters they are
        :param reading: opens a reader of the queue that they are in
        :param store: stores a message elsewhere; None drops it
        """
        self._queue = queue
        self._filter = chosen
        self._audit = audit
        self._reading = reading
        self._store = store
        self.result = Moved(audit.run)

    async def run(self) -> None:
        """Move what is in the queue now and is meant."""
        first: int | None = None
        is_over = False
        while not is_over:
            is_over = await self._read_and_move(first)
            first = self.result.left

    async def _read_and_move(self, first: int | None) -> bool:
        """Move what fits into memory; return whether that is all."""
        holding = Holding(self._queue, self._filter, has_body=self._store is not None)

        def take(incoming: Incoming, arrived: bool) -> None:
            if not arrived:
                holding.add(incoming)

        async with await self._reading(take, first) as reader:
            self.result.left = reader.first
            while holding:
                tag, letter = await holding.next(self._audit)
                reader.check()
                await to_its_end(self._move(reader, tag, letter))
                holding.done()
        return holding.is_all

    async def _move(self, reader: Reader, tag: int, letter: Letter) -> None:
        if self._store is not None:
            await self._store(letter)
        reader.take_out(tag)
        self.result.moved += 1
        self.result.left -= 1


Reading = Callable[[Take, int | None], Awaitable[Reader]]
"""Opens a reader for what takes the messages, and how many of them are no arrivals."""


def storing(send: Callable[[Message], Awaitable[None]], copy: Callable[[Letter], Message]) -> Store:
    """Make what publishes a copy of a letter, and waits until it is confirmed."""

    async def store(letter: Letter) -> None:
        try:
            await send(copy(letter))
        except InvalidMessageError as error:
            raise DeadLetterMoveError(
                f"message {shown(letter.message_id)} (ref {letter.ref}) cannot be published again: "
                f"{error}; it is where it was, and so are those after it"
            ) from error

    return store
