"""The store of a service: inbox, outbox, relay and states in one database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.clock import Clock, utc_now
from mqkit.errors import StatementError, StoreError, StoreUnavailableError
from mqkit.limits import DEFAULT_LIMITS, Limits, checked_limits
from mqkit.message import Delivery
from mqkit.middleware import Observer
from mqkit.outcome import Outcome
from mqkit.registration.transactions import HandlerPolicy, SendWithin
from mqkit.store import inbox
from mqkit.store.database.owner import Owner
from mqkit.store.database.pool import DEFAULT_POOL, Database, store_url
from mqkit.store.database.url import url_now
from mqkit.store.database.watch import watch_of
from mqkit.store.open_store import OpenStore
from mqkit.store.outbox import Outbox
from mqkit.store.reading.reader import Reader
from mqkit.store.relay import DEFAULT_SWEEP, PUBLISH_TIMEOUT, ROUND_TIME, Relay
from mqkit.store.running.group_size import DEFAULT_MOST
from mqkit.store.running.once import Once, RunMany
from mqkit.store.running.runs import Runs
from mqkit.store.states import State, StateRecorder
from mqkit.store.synchronous.once import RunInThread, ThreadOnce
from mqkit.store.transaction import Transaction
from mqkit.system.machine import MACHINE, Machine

DAY = 86_400.0

STOP_TIMEOUT = PUBLISH_TIMEOUT + ROUND_TIME + 5
"""Seconds that the relay's round gets to end; one that hangs longer is published again later."""

DEFAULT_LONGEST_RETRY = 7 * DAY
DEFAULT_REPLAY_AGE = 30 * DAY

CLOCK_MARGIN = 2 * 3600.0
"""Seconds that a row is kept beyond the window, for clocks that are wrong or jump."""


class Store(Reader, Observer):
    """Keeps inbox, outbox and states of messages in a database, so that each has its effect once.

    Given to a service (`Service(store=...)`), it is opened and closed with it. Elsewhere, in a web
    application, it is a context manager without a relay: what a `transaction()` publishes is
    committed with it, and waits for the relay of a service or of `mqkit relay`.

    `url` is `sqlite:///path` or `postgresql://user:password@host/database`, or a function that
    returns it, called when the store is opened; without it, the environment's `MQKIT_STORE` is read
    then. `relay` says whether its service runs a relay for the outbox; `mqkit relay` is one in a
    process of its own. `create_tables=False` leaves them to migrations (`mqkit.store.metadata`).
    `pool` is how many transactions go on at a time on PostgreSQL; four connections more are for
    what is not a handler's. `max_group` is how many messages may share one, where their handler is
    quick: 1 is a transaction for each.

    It belongs to the event loop that it is opened on, until it is closed there: a service in
    another thread, with a loop of its own, has a store of its own.

    `limits` are those of what transactions publish. A simulation hands in its own `machine`.

    Times are seconds: `statement_timeout` for one statement on PostgreSQL (60), after which it
    fails, and counts for the handler's policy where the database is well; `sweep` between two looks
    into the outbox that nobody hinted at; `longest_retry` for all retries of one message together,
    which the handlers' policies are checked against, and `replay_age` for a dead letter to be
    replayed. The inbox remembers a message for both together, its `window`.

    :raises ConfigurationError: the URL is malformed or of another database, or another option
        cannot be what it was given; the message never holds the URL's password
    """

    def __init__(
        self,
        url: str | Callable[[], str] | None = None,
        *,
        relay: bool = True,
        create_tables: bool = True,
        pool: int = DEFAULT_POOL,
        max_group: int = DEFAULT_MOST,
        sweep: Seconds = DEFAULT_SWEEP,
        longest_retry: Seconds = DEFAULT_LONGEST_RETRY,
        replay_age: Seconds = DEFAULT_REPLAY_AGE,
        statement_timeout: Seconds | None = None,
        limits: Limits = DEFAULT_LIMITS,
        clock: Clock = utc_now,
        machine: Machine = MACHINE,
    ) -> None:
        self._sweep = checked.seconds(sweep, "Store(sweep=...)", over=0)
        self._longest_retry = checked.seconds(longest_retry, "Store(longest_retry=...)", over=0)
        self._replay_age = checked.seconds(replay_age, "Store(replay_age=...)", over=0)
        self._statement_timeout: float | None = None
        if statement_timeout is not None:
            what = "Store(statement_timeout=...)"
            self._statement_timeout = checked.seconds(statement_timeout, what, over=0)
        self._pool = checked.count(pool, "Store(pool=...)")
        self._limits = checked_limits(limits, "Store(limits=...)")
        self._url = url if url is None or callable(url) else store_url(url)
        self._relays = checked.flag(relay, "Store(relay=...)")
        self._create_tables = checked.flag(create_tables, "Store(create_tables=...)")
        self._keeps_sagas = False
        self._given_clock = clock
        self._machine = machine
        self._ahead = 0.0
        self._opened: OpenStore | None = None
        options: dict[str, Any] = {"keep": self._keep, "limits": self._limits}
        options["longest_retry"] = self._longest_retry
        self._once = Once(self._clock, **options)
        self._runs = Runs(self._once, max_group=checked.count(max_group, "Store(max_group=...)"))
        self._thread_runs = Runs(ThreadOnce(self._clock, **options), max_group=1)
        self._owner = Owner()

    @property
    def window(self) -> float:
        """Return the seconds that the inbox remembers a message at least."""
        return self._longest_retry + self._replay_age

    @property
    def relays(self) -> bool:
        """Tell whether its service runs a relay."""
        return self._relays

    @property
    def _keep(self) -> timedelta:
        return timedelta(seconds=self.window + CLOCK_MARGIN)

    def check(self, handlers: tuple[HandlerPolicy, ...]) -> None:
        """Refuse handlers whose messages could come back after their inbox rows are gone.

        :raises ConfigurationError: one of them retries for longer than `longest_retry`
        """
        inbox.check_handlers(handlers, self._longest_retry)

    def keep_sagas(self) -> type[Transaction]:
        """Keep sagas, too: refuse, when opened, a database without their tables."""
        self._keeps_sagas = True
        return Transaction

    async def open(self) -> None:
        """Connect, and create the tables where they are missing; for each `open`, `close` once.

        :raises ConfigurationError: there is no URL, or it is open on another event loop
        :raises StoreError: the database cannot be reached or used
        """
        async with self._owner.changing() as owner:
            if owner.users == 0:
                database = Database(
                    url_now(self._url),
                    pool=self._pool,
                    statement_timeout=self._statement_timeout,
                    machine=self._machine,
                )
                sagas = self._keeps_sagas
                await database.open(create_tables=self._create_tables, sagas=sagas)
                recorder = StateRecorder(database, self._clock, keep=self._keep)
                self._opened = OpenStore(database, recorder, self._machine)
            owner.users += 1

    async def close(self) -> None:
        """Write what was noted, and disconnect, once all who opened it have closed it."""
        async with self._owner.changing() as owner:
            if self._opened is None or owner.users == 0:
                return
            owner.users -= 1
            if owner.users == 0:
                # Open until then: the relay's last round is part of it.
                try:
                    await self._opened.close(within=STOP_TIMEOUT)
                finally:
                    self._runs.forget(self._opened)
                    self._opened = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self, send: SendWithin) -> asyncio.Task[None] | None:
        """Start the relay, unless this store has none; the task ends by `stop`, or an error."""
        opened = self._open()
        if not self._relays or opened.relay is not None:
            return None
        outbox, clock = Outbox(opened.database), self._clock
        relay = Relay(outbox, send, clock=clock, purge=self._purge, sweep=self._sweep)
        return opened.start_relay(relay)

    async def stop(self) -> None:
        """End the relay: what is being published is confirmed, and taken out of the outbox."""
        if self._opened is not None:
            await self._opened.stop_relay(within=STOP_TIMEOUT)

    async def ping(self) -> None:
        """Return if the database answers.

        :raises StoreUnavailableError: it does not
        """
        await self._open().database.ping()

    @contextlib.asynccontextmanager
    async def transaction(self, *, app_id: str | None = None) -> AsyncIterator[Transaction]:
        """Run a transaction outside a handler: committed at the end of the block, else rolled back.

        :raises StoreUnavailableError: the database failed; where it failed in the commit, nobody
            knows whether it is committed
        :raises StatementError: a statement took longer than `statement_timeout`
        """
        opened = self._open()
        try:
            async with opened.database.transaction() as connection:
                transaction = self._once.transaction(opened, connection, app_id)
                watch_of(connection).of_handler = True
                yield transaction
                await self._once.finish(opened, connection, [transaction])
        except StatementError as error:
            if await opened.database.answers():
                raise
            raise StoreUnavailableError(str(error)) from error.__cause__
        if transaction.messages:
            opened.committed()

    async def run_once(
        self,
        handler: str,
        delivery: Delivery,
        run: Callable[[Transaction], Awaitable[Any]],
        *,
        at_once: int | None = None,
    ) -> Any:
        """Run a handler in a transaction that holds its inbox row, or not at all if there is one.

        A message is known by its id, the handler and its queue.

        Where `at_once` is given, it may share the transaction with messages of the same handler for
        which this is called at the same time: it then runs for one after the other. So many runs of
        the handler go on at the same time, at most. What one of them raises costs no other one its
        effect; but another one may be run again for it, and then has its effect by that run alone.

        :raises StoreUnavailableError: the database failed, not the handler
        :raises StatementError: the transaction failed though the database is well: it took too
            long, or failed for this message again and again
        :raises MessageIdError: the store cannot keep its id
        :raises MessageIdReusedError: another message of this id was handled: its body is another
        """
        opened = self._open()
        if at_once is None:
            return await self._runs.once(opened, handler, delivery, run)
        return await self._runs.once_in_group(opened, handler, delivery, run, at_once=at_once)

    def under_way(self, handler: str) -> int:
        """Return how many messages of a handler it can use at a time, by how quick it is lately."""
        return self._runs.under_way(self._open(), handler)

    async def run_batch_once(
        self, handler: str, deliveries: Sequence[Delivery], run: RunMany
    ) -> list[Any]:
        """Run a handler for many messages in one transaction, without those that it has handled.

        `run` is given the others, if there are any, and returns a result for each, of which an
        exception is that message's failure: it gets no inbox row, and may run again. Returned is a
        result for each delivery, in their order: what the handler returned, now or the first time,
        or its error, which is one of those that `run_once` raises where the store gives it.

        What `run` raises rolls all of it back, and is the result of all that it was for. It is
        raised where nothing else is known of any of them.

        :param deliveries: of different ids
        """
        return await self._runs.batch_once(self._open(), handler, deliveries, run)

    def prepare_threads(self) -> None:
        """Make ready for `def` handlers; a ConfigurationError says that their driver is missing."""
        self._open().database.in_threads()

    async def run_once_in_thread(self, handler: str, delivery: Delivery, run: RunInThread) -> Any:
        """Run a `def` handler as `run_once` does, in a transaction that is its thread's alone.

        `run` is given the transaction and a `ThreadRun`, has a thread call its `carry_out`, and
        returns the result of that; what it raises of the run, after the commit, undoes nothing.
        """
        in_thread: Any = run
        return await self._thread_runs.once(self._open(), handler, delivery, in_thread)

    async def run_batch_once_in_thread(
        self, handler: str, deliveries: Sequence[Delivery], run: RunInThread
    ) -> list[Any]:
        """Run a `def` handler for many messages as `run_batch_once` does, in a thread."""
        in_thread: Any = run
        return await self._thread_runs.batch_once(self._open(), handler, deliveries, in_thread)

    def received(self, handler: str, delivery: Delivery) -> None:
        """Note that a message was received."""
        # Its runtime is on its loop, and to look at that again would cost each message more.
        (self._opened or self._open()).recorder.begun(handler, delivery, State.RECEIVED)

    def started(self, handler: str, delivery: Delivery) -> None:
        """Note that its handler runs."""
        (self._opened or self._open()).recorder.begun(handler, delivery, State.PROCESSING)

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Note what became of it."""
        self.settled_together(handler, ((delivery, outcome),))

    def settled_together(self, handler: str, settled: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Note what became of messages that were settled together."""
        opened = self._open()
        opened.recorder.settled_together(handler, settled, in_inbox=handler in opened.with_inbox)

    def advance(self, seconds: float) -> None:
        """Move the store's clock, for tests; what the outbox holds back until then is due at once.

        `mqkit.testing.harness` does it when a test lets time pass, and puts it back in the end.
        """
        self._ahead += seconds
        if self._opened is not None and self._opened.relay is not None:
            self._opened.relay.wake()

    def _clock(self) -> datetime:
        now = self._given_clock()
        return now + timedelta(seconds=self._ahead) if self._ahead else now

    async def _purge(self) -> int:
        return await self._open().purge(self._clock())

    def _open(self) -> OpenStore:
        if self._opened is None:
            raise StoreError("the store is not open: await store.open(), or use `async with store`")
        self._owner.check()
        return self._opened
