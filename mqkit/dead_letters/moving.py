"""Moves dead letters to another queue, or out of theirs: archived, restored, dropped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mqkit.dead_letters.audit import NAMED, Audit
from mqkit.dead_letters.errors import DeadLetterMoveError
from mqkit.dead_letters.filters import Filter
from mqkit.dead_letters.letters import Letter, read
from mqkit.dead_letters.reader import Reader
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
        self,
        *,
        queue: str,
        chosen: Filter,
        audit: Audit,
        store: Callable[[Letter], Awaitable[None]] | None,
    ) -> None:
        """Move nothing yet.

        :param queue: whose dead letters they are
        :param store: stores a message elsewhere; None drops it
        """
        self._queue = queue
        self._filter = chosen
        self._audit = audit
        self._store = store
        self.result = Moved(audit.run)

    async def run(self, reader: Reader) -> None:
        """Move what is in the queue now and is meant."""
        unread = self.result.left = await reader.ready()
        while unread:
            part = await reader.read(unread)
            unread -= len(part)
            meant: list[tuple[int, Letter]] = []
            for incoming in part:
                letter = read(incoming, queue=self._queue, has_body=self._store is not None)
                if self._filter.matches(letter):
                    meant.append((incoming.tag, letter))
            for at in range(0, len(meant), NAMED):
                await self._move(reader, meant[at : at + NAMED])

    async def _move(self, reader: Reader, letters: list[tuple[int, Letter]]) -> None:
        await self._audit.moves([letter for _, letter in letters])
        for tag, letter in letters:
            if self._store is not None:
                reader.check()
                await self._store(letter)
            reader.take_out(tag)
            self.result.moved += 1
            self.result.left -= 1


def storing(
    send: Callable[[Message], Awaitable[None]], copy: Callable[[Letter], Message]
) -> Callable[[Letter], Awaitable[None]]:
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
