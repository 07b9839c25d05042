"""Groups messages of a handler that are ready at the same time, so that they share a commit.

A group never waits for more: it takes what is there when the transaction before it is done.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from mqkit.errors import StatementError, StoreError, StoreUnavailableError
from mqkit.logging.error_reports import log_error
from mqkit.logging.error_texts import error_type
from mqkit.message import Delivery
from mqkit.store.open_store import OpenStore
from mqkit.store.running.group_size import GroupSize
from mqkit.store.running.member import Member, MemberLeftError
from mqkit.store.running.once import Once, RowsRefusedError, RunAgainError, RunAloneError
from mqkit.store.running.transient import Key
from mqkit.store.transaction import Transaction

logger = logging.getLogger(__name__)

IN_VAIN = 5.0
"""Seconds for which the store was away to one message, after which others do not try it in turn."""


class Groups:
    """Runs the messages of one handler in groups, in tasks of its own."""

    def __init__(self, opened: OpenStore, handler: str, once: Once, size: GroupSize) -> None:
        self._opened = opened
        self._handler = handler
        self._once = once
        self.size = size
        self._waiting: deque[Member] = deque()
        self._serving = 0
        self._progress = 0
        self._looking: asyncio.TimerHandle | None = None

    # Those that only pass on what is awaited are no coroutines themselves, here and in what calls
    # this: each is passed through three times for a message.
    def run(
        self, delivery: Delivery, run: Callable[[Transaction], Awaitable[Any]]
    ) -> Coroutine[Any, Any, Any]:
        """Run the handler for a message once its turn has come; return its result once committed.

        :raises Exception: what the handler raised, or the store's error, which is judged
        """
        member = Member(delivery, run, self._note_progress)
        self._waiting.append(member)
        self._serve_more()
        return member.take_part()

    def _serve_more(self) -> None:
        if not self._waiting:
            return
        if self._serving < self.size.transactions:
            self._serving += 1
            # In a context of its own: it is not the run of the message that came first.
            self._opened.spawn_group(self._serve(), contextvars.Context())
        if self._serving < self.size.at_once and self._looking is None:
            self._look_later()

    def _look_later(self) -> None:
        """See in a moment whether those that wait, wait for runs that wait for something else."""
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(self.size.patience, self._look, self._progress)

    def _look(self, progress: int) -> None:
        self._looking = None
        if self._progress == progress and self._waiting:
            self.size.stalled()
        self._serve_more()

    async def _serve(self) -> None:
        """Run groups until nobody waits, or fewer of them are to go on at a time."""
        try:
            while self._waiting and self._serving <= self.size.transactions:
                await self._serve_group(self._take())
                self._serve_more()
        finally:
            self._serving -= 1

    async def _serve_group(self, members: Sequence[Member]) -> None:
        try:
            await self._run(members)
        except Exception as error:  # noqa: BLE001 - a fault of this package: the others go on
            text = "%s: a group of messages ended with an error of mqkit's own"
            log_error(logger, logging.CRITICAL, text, self._handler, error=error)
            for each in members:
                each.fail(StoreError(f"its group ended with {error_type(error)}"))
        finally:
            for each in members:  # all have ended, unless this is cancelled
                each.fail(_closed())

    def close(self) -> None:
        """Tell all that wait that their store is closed."""
        while self._waiting:
            self._waiting.popleft().fail(_closed())

    def _take(self) -> list[Member]:
        """Take the next group: the first that wait, each id once; it is taken in their order."""
        members: dict[str | None, Member] = {}
        later: list[Member] = []
        self.size.waiting = len(self._waiting)
        most = self.size.messages
        while self._waiting and len(members) < most:
            member = self._waiting.popleft()
            if member.has_left:
                continue
            if member.delivery.message_id in members:
                later.append(member)
            else:
                members[member.delivery.message_id] = member
        self._waiting.extendleft(reversed(later))
        return list(members.values())

    async def _run(self, members: Sequence[Member]) -> None:
        left = [each for each in members if not each.has_left]
        if len(left) == 1:
            await self._run_alone(left[0])
        elif left:
            await self._run_together(left)

    async def _run_together(self, members: Sequence[Member]) -> None:
        try:
            await self._try_together(members, savepoints=self.size.has_savepoints)
        except RowsRefusedError:
            self.size.failed()
        else:
            return
        # With a savepoint each, in which its rows are written, the one that they are of fails.
        left = [each for each in members if not (each.is_over or each.has_left)]
        if left:
            await self._try_together(left, savepoints=True)

    async def _try_together(self, members: Sequence[Member], *, savepoints: bool) -> None:
        opened, size = self._opened, self.size
        began = asyncio.get_running_loop().time()
        try:
            await self._once.group(opened, self._handler, members, savepoints=savepoints)
        except RowsRefusedError:
            raise
        except RunAloneError:
            size.changed_session()
            await self._run_each([each for each in members if not each.is_over])
        except RunAgainError as again:
            size.failed()
            await self._fail(again.member, again.error)
            again.error.__traceback__ = None
            await self._run([each for each in members if not each.is_over])
        except Exception as error:  # noqa: BLE001 - each message meets its own, alone
            if isinstance(error, StoreUnavailableError):
                size.conflicted()
                if not await opened.database.answers():
                    await self._fail_all([each for each in members if not each.is_over], error)
            await self._run_each([each for each in members if not each.is_over])
        else:
            self._committed(members, began)
            for each in members:
                opened.transient.ended(self._key(each))

    async def _run_each(self, members: Sequence[Member]) -> None:
        """Run each by itself; where one waits in vain, a table is locked, say: none waits after it.

        A hundred that wait for a lock one after the other would wait for most of an hour.
        """
        loop = asyncio.get_running_loop()
        for number, each in enumerate(members):
            began = loop.time()
            failed = await self._run_alone(each)
            if isinstance(failed, StoreUnavailableError) and loop.time() - began > IN_VAIN:
                await self._fail_all(members[number + 1 :], failed)
                return

    async def _run_alone(self, member: Member) -> Exception | None:
        """Run the handler for one member in its own transaction; return why that failed."""
        began = asyncio.get_running_loop().time()
        try:
            result = await self._once.one(self._opened, self._handler, member.delivery, member.turn)
        except MemberLeftError:
            return None
        except Exception as error:  # noqa: BLE001 - it is its message's, whatever it is
            await self._fail(member, error)
            return error
        self._opened.transient.ended(self._key(member))
        member.end(result)
        self._committed([member], began)
        return None

    def _note_progress(self) -> None:
        self._progress += 1

    def _committed(self, members: Sequence[Member], began: float) -> None:
        runs = 0.0
        others_wait = bool(self._waiting)
        for each in members:
            if each.seconds is not None:
                self.size.ran(each.seconds, each.lag, others_wait=others_wait)
                runs += each.seconds
        seconds = asyncio.get_running_loop().time() - began
        self.size.committed(len(members), seconds - runs)

    async def _fail(self, member: Member, error: BaseException) -> None:
        if not isinstance(error, (StoreUnavailableError, StatementError)):
            member.fail(error)
            return
        judged = await self._opened.judge(self._key(member), error)
        if judged is not error:
            # Not from the error: a pause looks for it among the causes.
            judged.__cause__ = error.__cause__
        member.fail(judged)

    async def _fail_all(self, members: Sequence[Member], error: StoreUnavailableError) -> None:
        keys = [self._key(each) for each in members]
        judged = await self._opened.judge_many(keys, error)
        for member, each in zip(members, judged, strict=True):
            member.fail(each)

    def _key(self, member: Member) -> Key:
        delivery = member.delivery
        return self._handler, delivery.queue, delivery.message_id or ""


def _closed() -> StoreError:
    return StoreError("the store was closed before the message was handled")
