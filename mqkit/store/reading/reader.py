"""The questions that a store answers: `Store.status`, `sagas`, `unpublished` and others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime

from mqkit.checks.checked import count
from mqkit.middleware import StoreReading
from mqkit.registration.sagas import SagaRow
from mqkit.store.backlog import backlog
from mqkit.store.open_store import OpenStore
from mqkit.store.outbox import Outbox, Unpublished
from mqkit.store.reading.recent import recent_messages
from mqkit.store.sagas import SagaStory, saga_list, saga_stories
from mqkit.store.states import State
from mqkit.store.status import MessageStatus, handled_ids, message_status

MAX_LISTED = 1_000
"""Messages or sagas that are listed where no limit is given."""

_MOST = (1 << 63) - 1
"""The largest number that both databases know."""


class Reader(ABC):
    """Answers what became of messages and sagas, and what waits, from an open store."""

    async def status(self, message_id: str) -> list[MessageStatus]:
        """Tell what became of a message: one status for each handler that had it, or none.

        The success of a handler with a transaction is told as soon as it is committed; what another
        process knows besides may come two seconds later.

        :raises StoreUnavailableError: the database is away
        """
        opened = self._open()
        await opened.recorder.flush(message_id)
        return await message_status(opened.database, message_id)

    async def recent(
        self, *, among: Collection[State] = (), limit: int = MAX_LISTED, offset: int = 0
    ) -> list[MessageStatus]:
        """List the messages whose state was noted last: a status for each handler of each message.

        Those that a handler with a transaction has handled are not noted, and not listed.

        :param among: the states that are listed; empty: all
        :param offset: how many of the first to leave out
        :raises OptionError: one of the two is no whole number, or less than 0
        :raises StoreUnavailableError: the database is away
        """
        _check_page(limit, offset)
        database = self._open().database
        return await recent_messages(database, among=among, limit=limit, offset=offset)

    async def handled(self, handler: str, queue: str, message_ids: Sequence[str]) -> set[str]:
        """Return those messages that the inbox would skip: the handler has had its effect."""
        return await handled_ids(self._open().database, (handler, queue), message_ids)

    async def sagas(
        self,
        *,
        name: str | None = None,
        status: str | None = None,
        limit: int = MAX_LISTED,
        offset: int = 0,
    ) -> list[SagaRow]:
        """List sagas, the ones that changed last first; those of a name or a status alone.

        :param offset: how many of the first to leave out
        :raises OptionError: one of the two is no whole number, or less than 0
        :raises StoreUnavailableError: the database is away
        """
        _check_page(limit, offset)
        database = self._open().database
        return await saga_list(database, name=name, status=status, limit=limit, offset=offset)

    async def saga(self, saga_id: str, *, name: str | None = None) -> list[SagaStory]:
        """Tell the story of the sagas of an id: one for each name that has it, or none.

        :raises StoreUnavailableError: the database is away
        """
        return await saga_stories(self._open().database, saga_id, name=name)

    async def pending(self) -> int:
        """Count messages that are committed and not yet confirmed by the broker.

        :raises StoreUnavailableError: the database is away
        """
        return await Outbox(self._open().database).count()

    async def unpublished(
        self, *, dead: bool = False, limit: int = MAX_LISTED, offset: int = 0
    ) -> list[Unpublished]:
        """List the messages that `pending` counts, the oldest first.

        :param dead: list those that `dead` counts instead
        :param offset: how many of the first to leave out
        :raises OptionError: one of the two is no whole number, or less than 0
        :raises StoreUnavailableError: the database is away
        """
        _check_page(limit, offset)
        outbox = Outbox(self._open().database)
        return await outbox.unpublished(self._clock(), dead=dead, limit=limit, offset=offset)

    async def dead(self) -> int:
        """Count messages of the outbox that can never be published, and are kept with their errors.

        :raises StoreUnavailableError: the database is away
        """
        return await Outbox(self._open().database).count_dead()

    async def backlog(self) -> StoreReading:
        """Return how much is yet to be done; StoreUnavailableError: the database is away."""
        return await backlog(self._open().database, self._clock())

    @abstractmethod
    def _open(self) -> OpenStore: ...

    @abstractmethod
    def _clock(self) -> datetime: ...


def _check_page(limit: int, offset: int) -> None:
    count(limit, "limit", least=0, most=_MOST)
    count(offset, "offset", least=0, most=_MOST)
