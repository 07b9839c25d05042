"""Runs `def` handlers in transactions that hold the inbox rows of their messages.

The loop takes a slot, so that no thread waits for another one's lock. The thread then does all of
it: it begins, claims the message, calls the handler, and commits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from mqkit.errors import StoreError
from mqkit.message import Delivery
from mqkit.outcome import RetryLater
from mqkit.store import inbox, outbox
from mqkit.store.database.synchronous.database import CommitGate, SyncDatabase
from mqkit.store.database.watch import Watch
from mqkit.store.open_store import OpenStore
from mqkit.store.running.once import Once
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


class ThreadOnce(Once):
    """Runs a `def` handler where the inbox has no row of its message, in a store that is open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._beside: set[asyncio.Task[None]] = set()

    async def one(self, opened: OpenStore, handler: str, delivery: Delivery, run: Any) -> Any:
        """Run a handler for one message, in a transaction of its own.

        :param run: a `RunInThread`
        """
        opened.with_inbox.add(handler)
        database = opened.database.in_threads()
        transaction = SyncTransaction(limits=self._limits, new_id=opened.new_id, clock=self._clock)

        def work(call: Call, gate: CommitGate) -> Any:
            with database.transaction(gate) as (connection, watch):
                known = self._claimed(database, connection, handler, [delivery])
                if known:
                    return _result(known.pop(delivery))
                result = self._call(handler, transaction, (connection, watch), call, [delivery])
                self._write(database, (connection, watch), transaction)
                results = [(delivery, result)]
                inbox.sync_keep_results(connection, database.dialect, handler, results)
            return result

        of = ThreadRun(work)
        async with self._place(opened, of, transaction):
            return await run(transaction, of)

    async def many(
        self,
        opened: OpenStore,
        handler: str,
        deliveries: Sequence[Delivery],
        run: Any,
        results: dict[Delivery, Any],
    ) -> None:
        """Run a handler once for a batch.

        :param run: a `RunInThread`
        :param results: is added to: what is known of a message, and the others' after the commit
        """
        opened.with_inbox.add(handler)
        database = opened.database.in_threads()
        transaction = SyncTransaction(limits=self._limits, new_id=opened.new_id, clock=self._clock)
        known: dict[Delivery, Any] = {}
        ended: list[tuple[Delivery, Any]] = []

        def work(call: Call, gate: CommitGate) -> None:
            with database.transaction(gate) as (connection, watch):
                # At once: where the run is given up, the loop looks at it meanwhile.
                known.update(self._claimed(database, connection, handler, deliveries))
                left = [each for each in deliveries if each not in known]
                if not left:
                    return
                returned = self._call(handler, transaction, (connection, watch), call, left)
                done = [self._checked(handler, result) for result in returned]
                ended.extend(zip(left, done, strict=True))
                self._write(database, (connection, watch), transaction)
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
        results.update(ended)

    def _claimed(
        self,
        database: SyncDatabase,
        connection: Connection,
        handler: str,
        deliveries: Sequence[Delivery],
    ) -> dict[Delivery, Any]:
        """Insert inbox rows, and return of whom there is one: its result, or its error."""
        known = inbox.sync_claim_many(
            connection,
            database.dialect,
            handler,
            deliveries,
            now=self._clock(),
            keep=self._keep,
        )
        return self._told(handler, deliveries, known)

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
        self,
        database: SyncDatabase,
        within: tuple[Connection, Watch],
        transaction: SyncTransaction,
    ) -> None:
        connection, watch = within
        if watch.changed_settings:
            database.dialect.sync_restore(connection)
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


def _result(known: Any) -> Any:
    try:
        if isinstance(known, StoreError):
            raise known
        return known
    finally:
        del known  # an error's traceback has this frame: it would be a cycle


async def _abort(gate: CommitGate, ended: asyncio.Event, place: contextlib.AsyncExitStack) -> None:
    """Free the place of a run that was given up, as soon as the locks of its transaction are."""
    async with place:
        # In a thread: a statement that the other one is at may have to end before.
        if not await asyncio.to_thread(gate.abort):
            await ended.wait()
