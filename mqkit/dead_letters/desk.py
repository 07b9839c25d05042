"""What each operation on dead letters needs: the connection, the lock, a reader, an audit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from mqkit.broker.connection import Connection
from mqkit.dead_letters import queues
from mqkit.dead_letters.audit import Audit, checked_text
from mqkit.dead_letters.errors import DeadLettersInUseError
from mqkit.dead_letters.messages.letters import Letter, read
from mqkit.dead_letters.queues import Names
from mqkit.dead_letters.reader import Reader, Take
from mqkit.dead_letters.sending import SingleWrites
from mqkit.drivers.base import Incoming
from mqkit.errors import MqkitError
from mqkit.logging.error_reports import log_problem
from mqkit.logging.error_texts import error_type
from mqkit.logging.masking import Masker
from mqkit.logging.shown import shown
from mqkit.publishing.publisher import Publisher

logger = logging.getLogger(__name__)

LAST_WORD = 3.0
"""Seconds in which the audit is told that a run failed."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The connection to one dead letter queue's broker, and who sits there."""

    connection: Connection
    publisher: Publisher
    """For the audit."""
    writes: SingleWrites
    """For dead letters."""
    names: Names
    who: str
    masker: Masker
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Is had by one operation at a time: the broker's lock keeps other connections away alone."""

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Check the queue, and keep others of mqkit away from it for the block.

        :raises NotADeadLetterQueueError: it is none
        :raises DeadLettersInUseError: a handler consumes it, or somebody else has it
        """
        async with self._my_turn():
            held = await queues.lock(self.connection, self.names)
            try:
                await queues.check_is_not_moved(self.connection, self.names)
                await queues.check(self.connection, self.names)
                yield
            finally:
                await held.close()

    @contextlib.asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(queues.LOCK_WAIT):
                await self.turn.acquire()
        except TimeoutError:
            raise DeadLettersInUseError(
                f"this process reads or moves the dead letters of {shown(self.names.queue)} now "
                "in another task; try again when it is done"
            ) from None
        try:
            yield
        finally:
            self.turn.release()

    async def reader(
        self, take: Take, first: int | None = None, *, queue: str | None = None
    ) -> Reader:
        """Make a reader of the dead letter queue, or of another one.

        :param take: is given each message
        :param first: messages that are no arrivals; None is all that are there now
        """
        name = queue or self.names.dead

        async def count() -> int:
            state = await queues.find(self.connection, name)
            return 0 if state is None else state.messages

        return Reader(await self.connection.channel(), name, take, first, count=count)

    async def look(
        self,
        look: Callable[[Letter], None],
        *,
        queue: str | None = None,
        has_body: bool = False,
    ) -> None:
        """Look at all that is in the dead letter queue now, or in another one, as `locked`.

        :param look: is given each message
        """

        def take(incoming: Incoming, arrived: bool) -> None:
            if not arrived:
                look(read(incoming, queue=self.names.queue, has_body=has_body))

        async with self.locked(), await self.reader(take, queue=queue):
            pass

    def working(
        self, what: str, why: str, details: dict[str, object]
    ) -> contextlib.AbstractAsyncContextManager[Audit]:
        """Do something as `locked`, which the audit is told of before it begins and as it ends.

        :param details: its filter and options
        :raises OptionError: no reason was given
        """
        return self._working(what, checked_text(why, "why"), details)

    @contextlib.asynccontextmanager
    async def _working(
        self, what: str, why: str, details: dict[str, object]
    ) -> AsyncIterator[Audit]:
        async with self.locked(), self._audited(what, why, details) as audit:
            yield audit

    @contextlib.asynccontextmanager
    async def _audited(
        self, what: str, why: str, details: dict[str, object]
    ) -> AsyncIterator[Audit]:
        await queues.declare_audit(self.connection, self.names)
        audit = Audit(
            self.publisher,
            self.names.audit,
            who=self.who,
            what=what,
            why=why,
            run=uuid.uuid4().hex[:12],
            masker=self.masker,
        )
        await audit.began(details)
        try:
            yield audit
        except BaseException as error:
            with _told(what):
                async with asyncio.timeout(LAST_WORD):
                    await audit.failed({**audit.result(), "error": error_type(error)})
            raise
        await audit.ended(audit.result())


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Log that the audit could not be told of a failure, which itself is raised."""
    try:
        yield
    except (MqkitError, TimeoutError) as error:
        text = "the audit could not be told that a %s failed"
        log_problem(logger, logging.WARNING, text, what, error=error)
