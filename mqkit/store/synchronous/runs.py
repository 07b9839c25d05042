"""Runs `def` handlers in transactions that hold the inbox rows of their messages.

The loop takes a slot, so that no thread waits for another one's lock. The thread then does all of
it: it begins, claims the message, calls the handler, and commits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from mqkit.errors import StatementError, StoreUnavailableError
from mqkit.message import Delivery
from mqkit.outcome import RetryLater
from mqkit.store import inbox, outbox
from mqkit.store.database.engine import Watch
from mqkit.store.database.sync_database import CommitGate, SyncDatabase
from mqkit.store.open_store import OpenStore
from mqkit.store.runs import Runs, key_of, log_handled
from mqkit.store.synchronous.transaction import SyncTransaction

Call = Callable[[Sequence[Delivery]], Any]
"""Calls a handler for messages, and checks what it returned while that can be undone."""

RunInThread = Callable[[SyncTransaction, "ThreadRun"], Awaitable[Any]]
"""Has a thread call `ThreadRun.carry_out`, and waits for it."""


class ThreadRun:
    """One run of a handler in a thread, with its transaction."""

    def __init__(self, work: Callable[[Call, CommitGate], Any]) -> None:
        """Run nothing yet.

        :param work: what the thread does: a transaction that the gate lets commit
        """
        self._work = work
        self.gate = CommitGate()
        self.is_committed = False

    def carry_out(self, call: Call) -> Any:
        """Run the handler in this thread, from the begin of its transaction to the commit.

        :raises StoreError: the run was given up
        """
        self.gate.begin()
        try:
            result = self._work(call, self.gate)
            self.is_committed = True
            return result
        finally:
            self.gate.end()

    def give_up(self) -> bool:
        """Have it rolled back; False: its commit has begun, and is to be waited for."""
        return self.gate.give_up()


class ThreadRuns(Runs):
    """Runs `def` handlers once for each message, with a store that is open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._beside: set[asyncio.Task[None]] = set()

    async def once_in_thread(
        self, opened: OpenStore, handler: str, delivery: Delivery, run: RunInThread
    ) -> Any:
        """Run a handler for a message: `Store.run_once_in_thread`."""
        inbox.check_id(handler, delivery.message_id)
        opened.with_inbox.add(handler)
        key = key_of(handler, delivery)
        transaction = SyncTransaction(limits=self._limits)

        def work(call: Call, gate: CommitGate) -> Any:
            with database.transaction(gate) as (connection, watch):
                handled = inbox.sync_claim(
                    connection,
                    database.dialect,
                    handler,
                    delivery,
                    now=self._clock(),
                    keep=self._keep,
                )
                if handled is not None:
                    log_handled(handler, delivery)
                    return handled.result
                result = self._call(handler, transaction, (connection, watch), call, [delivery])
                self._write(database, connection, transaction)
                inbox.sync_keep_result(connection, database.dialect, handler, delivery, result)
            return result

        database = opened.database.in_threads()
        of = ThreadRun(work)
        try:
            async with self._place(opened, of, transaction):
                result = await run(transaction, of)
        except (StoreUnavailableError, StatementError) as error:
            judged = await opened.judge(key, error)
            if judged is error:
                raise
            # Not from the error: a pause looks for it among the causes.
            raise judged from error.__cause__
        opened.transient.ended(key)
        return result

    async def batch_once_in_thread(
        self, opened: OpenStore, handler: str, deliveries: Sequence[Delivery], run: RunInThread
    ) -> list[Any]:
        """Run a handler for messages of different ids: `Store.run_batch_once_in_thread`."""
        how: Any = run
        return await self.batch_once(opened, handler, deliveries, how)

    async def _many(
        self,
        opened: OpenStore,
        handler: str,
        deliveries: Sequence[Delivery],
        run: Any,
        results: dict[Delivery, Any],
    ) -> None:
        """Add to the results as `Runs` does, by a run in a thread."""
        opened.with_inbox.add(handler)
        database = opened.database.in_threads()
        transaction = SyncTransaction(limits=self._limits)
        known: dict[Delivery, Any] = {}
        ended: list[tuple[Delivery, Any]] = []

        def work(call: Call, gate: CommitGate) -> None:
            with database.transaction(gate) as (connection, watch):
                # At once: where the run is given up, the loop looks at it meanwhile.
                known.update(dict(self._claimed(database, connection, handler, deliveries)))
                left = [each for each in deliveries if each not in known]
                if not left:
                    return
                returned = self._call(handler, transaction, (connection, watch), call, left)
                done = [self._checked(handler, result) for result in returned]
                ended.extend(zip(left, done, strict=True))
                self._write(database, connection, transaction)
                failed = [each for each, result in ended if isinstance(result, BaseException)]
                inbox.sync_take_out(connection, database.dialect, handler, failed)
                succeeded = [pair for pair in ended if not isinstance(pair[1], BaseException)]
                inbox.sync_keep_results(connection, database.dialect, handler, succeeded)

        of = ThreadRun(work)
        try:
            async with self._place(opened, of, transaction):
                await run(transaction, of)
        finally:
            # What was handled before is known, whatever becomes of the others.
            results.update(known)
        await self._add_results(opened, handler, ended, results)

    def _claimed(
        self,
        database: SyncDatabase,
        connection: Connection,
        handler: str,
        deliveries: Sequence[Delivery],
    ) -> Iterator[tuple[Delivery, Any]]:
        """Claim messages, and return what is known of those that may not be run."""
        known = inbox.sync_claim_many(
            connection,
            database.dialect,
            handler,
            deliveries,
            now=self._clock(),
            keep=self._keep,
        )
        for each in deliveries:
            found = known.get(each.message_id or "")
            if isinstance(found, inbox.Handled):
                log_handled(handler, each)
                yield each, found.result
            elif found is not None:
                yield each, found

    def _call(
        self,
        handler: str,
        transaction: SyncTransaction,
        within: tuple[Connection, Watch],
        call: Call,
        deliveries: Sequence[Delivery],
    ) -> Any:
        connection, watch = within
        transaction.begin(connection)
        watch.of_handler = True
        try:
            result = call(deliveries)
            transaction.flush()
        except RetryLater as later:
            self._check_retry(handler, later)
            raise
        finally:
            watch.of_handler = False
            transaction.end()
        return result

    def _write(
        self, database: SyncDatabase, connection: Connection, transaction: SyncTransaction
    ) -> None:
        outbox.sync_write(
            connection,
            database.dialect,
            transaction.messages,
            self._clock(),
            transaction.exchanges,
        )

    @contextlib.asynccontextmanager
    async def _place(
        self, opened: OpenStore, run: ThreadRun, transaction: SyncTransaction
    ) -> AsyncIterator[None]:
        """Hold a slot until the transaction has ended, which may be after the block's end."""
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(opened.database.slot())
            try:
                yield
            finally:
                run.give_up()
                if run.is_committed and transaction.messages:
                    opened.committed()
                ended = asyncio.Event()

                def tell() -> None:
                    with contextlib.suppress(RuntimeError):  # the loop has ended
                        loop.call_soon_threadsafe(ended.set)

                if run.gate.when_ended(tell):
                    rest = asyncio.create_task(_abort(run.gate, ended, stack.pop_all()))
                    self._beside.add(rest)
                    rest.add_done_callback(self._beside.discard)


async def _abort(gate: CommitGate, ended: asyncio.Event, place: contextlib.AsyncExitStack) -> None:
    """Free the place of a run that was given up, as soon as the locks of its transaction are."""
    async with place:
        # In a thread: a statement that the other one is at may have to end before.
        if not await asyncio.to_thread(gate.abort):
            await ended.wait()
