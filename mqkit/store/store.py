"""The store of a service: inbox, outbox, relay and states in one database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Self

from sqlalchemy import URL

from mqkit import checked
from mqkit.checked import Seconds
from mqkit.dispatch import Clock, utc_now
from mqkit.effects import HandlerPolicy, SendWithin
from mqkit.errors import ConfigurationError, StoreError
from mqkit.limits import DEFAULT_LIMITS, Limits, checked_limits
from mqkit.message import Delivery
from mqkit.outcome import Outcome, RetryLater
from mqkit.settings import Settings
from mqkit.shown import shown
from mqkit.store import inbox, outbox
from mqkit.store.database import DEFAULT_POOL, Database, store_url
from mqkit.store.outbox import Outbox
from mqkit.store.relay import DEFAULT_SWEEP, PUBLISH_TIMEOUT, ROUND_TIME, Relay
from mqkit.store.schema import MAX_ID
from mqkit.store.states import State, StateRecorder
from mqkit.store.status import MessageStatus, message_status
from mqkit.store.transaction import Transaction
from mqkit.store.wake import Notifier, listen

logger = logging.getLogger(__name__)

DAY = 86_400.0

STOP_TIMEOUT = PUBLISH_TIMEOUT + ROUND_TIME + 5
"""Seconds that the relay's round gets to end; one that hangs longer is published again later."""

DEFAULT_LONGEST_RETRY = 7 * DAY
DEFAULT_REPLAY_AGE = 30 * DAY

CLOCK_MARGIN = 2 * 3600.0
"""Seconds that a row is kept beyond the window, for clocks that are wrong or jump."""


class Store:
    """Keeps what messages did, in SQLite or PostgreSQL, so that each has its effect once.

    Given to a service (`Service(store=...)`), it is opened and closed with it. Elsewhere, in a web
    application, it is a context manager, and `transaction()` publishes what commits.

    `url` is `sqlite:///path` or `postgresql://user:password@host/database`; without it, the
    environment's `MQKIT_STORE` is read when the store is opened. `relay` says whether its service
    runs a relay for the outbox; `mqkit relay` is one in a process of its own. `create_tables=False`
    leaves them to migrations (`mqkit.store.metadata`). `pool` is how many connections to
    PostgreSQL it may have.

    `limits` are those of what transactions publish.

    Times are seconds: `sweep` between two looks into the outbox that nobody hinted at;
    `longest_retry` for all retries of one message together, which the handlers' policies are
    checked against, and `replay_age` for a dead letter to be replayed. The inbox remembers a
    message for both together, its `window`.

    :raises ConfigurationError: the URL is malformed or of another database, or another option
        cannot be what it was given; the message never holds the URL's password
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        relay: bool = True,
        create_tables: bool = True,
        pool: int = DEFAULT_POOL,
        sweep: Seconds = DEFAULT_SWEEP,
        longest_retry: Seconds = DEFAULT_LONGEST_RETRY,
        replay_age: Seconds = DEFAULT_REPLAY_AGE,
        limits: Limits = DEFAULT_LIMITS,
        clock: Clock = utc_now,
    ) -> None:
        self._sweep = checked.seconds(sweep, "Store(sweep=...)", over=0)
        self._longest_retry = checked.seconds(longest_retry, "Store(longest_retry=...)", over=0)
        self._replay_age = checked.seconds(replay_age, "Store(replay_age=...)", over=0)
        self._pool = checked.count(pool, "Store(pool=...)")
        self._limits = checked_limits(limits, "Store(limits=...)")
        self._url = None if url is None else store_url(url)
        self._relays = checked.flag(relay, "Store(relay=...)")
        self._create_tables = checked.flag(create_tables, "Store(create_tables=...)")
        self._clock = clock
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()
        self._users = 0

    @property
    def window(self) -> float:
        """Seconds that the inbox remembers a message at least."""
        return self._longest_retry + self._replay_age

    @property
    def _keep(self) -> timedelta:
        return timedelta(seconds=self.window + CLOCK_MARGIN)

    def check(self, handlers: tuple[HandlerPolicy, ...]) -> None:
        """Refuse handlers whose messages could come back after their inbox rows are gone.

        :raises ConfigurationError: one of them retries for longer than `longest_retry`
        """
        for handler in handlers:
            if len(handler.name) > MAX_ID:
                raise ConfigurationError(
                    f"handler {handler.name}: its name is over {MAX_ID} characters, and would not "
                    "fit into the inbox"
                )
            longest = handler.longest_retry
            if longest > self._longest_retry:
                raise ConfigurationError(
                    f"handler {handler.name} may retry a message for {longest:.0f} s, and its "
                    f"store is told of {self._longest_retry:.0f} s: say "
                    "Store(longest_retry=...), or give the policy an earlier stop"
                )

    async def open(self) -> None:
        """Connect, and make the tables where they are missing; for each `open`, `close` once.

        :raises ConfigurationError: there is no URL
        :raises StoreError: the database cannot be reached or used
        """
        async with self._opening:
            if self._opened is None:
                database = Database(self._url or _url_of_environment(), pool=self._pool)
                await database.open(create_tables=self._create_tables)
                self._opened = _Opened(
                    database, StateRecorder(database, self._clock, keep=self._keep)
                )
            self._users += 1

    async def close(self) -> None:
        """Write what was noted, and disconnect, once all who opened it have closed it."""
        async with self._opening:
            if self._opened is None:
                return
            self._users -= 1
            if self._users == 0:
                # Open until then: the relay's last round is part of it.
                try:
                    await self._opened.close()
                finally:
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
        return opened.start_relay(
            Relay(
                Outbox(opened.database),
                send,
                clock=self._clock,
                purge=self._purge,
                sweep=self._sweep,
            )
        )

    async def stop(self) -> None:
        """End the relay: what is being published is confirmed, and taken out of the outbox."""
        if self._opened is not None:
            await self._opened.stop_relay()

    async def ping(self) -> None:
        """Return if the database answers.

        :raises StoreUnavailableError: it does not
        """
        await self._open().database.ping()

    @contextlib.asynccontextmanager
    async def transaction(self, *, app_id: str | None = None) -> AsyncIterator[Transaction]:
        """A transaction outside a handler: committed at the end of the block, else rolled back.

        :raises StoreUnavailableError: the database failed; where it failed in the commit, nobody
            knows whether it is committed
        """
        opened = self._open()
        async with opened.database.transaction() as connection:
            transaction = Transaction(connection, app_id=app_id, limits=self._limits)
            yield transaction
            await self._finish(transaction)
        if transaction.messages:
            opened.committed()

    async def once(
        self, handler: str, delivery: Delivery, run: Callable[[Transaction], Awaitable[Any]]
    ) -> Any:
        """Run a handler in a transaction that holds its inbox row, or not at all if there is one.

        :raises StoreUnavailableError: the database failed, not the handler
        """
        opened = self._open()
        opened.with_inbox.add(handler)
        async with opened.database.transaction() as connection:
            handled = await inbox.claim(
                connection,
                opened.database.flavour,
                handler,
                delivery,
                now=self._clock(),
                keep=self._keep,
            )
            if handled is not None:
                logger.info(
                    "%s: message %s was handled before", handler, shown(delivery.message_id)
                )
                return handled.result
            transaction = Transaction(connection, limits=self._limits)
            try:
                result = await run(transaction)
            except RetryLater as later:
                self._check_retry(handler, later)
                raise
            await self._finish(transaction)
            await inbox.keep_result(connection, handler, delivery, result)
        if transaction.messages:
            opened.committed()
        return result

    async def _finish(self, transaction: Transaction) -> None:
        await transaction.flush()
        await outbox.write(
            transaction.connection,
            self._open().database.flavour,
            transaction.messages,
            self._clock(),
        )

    def _check_retry(self, handler: str, later: RetryLater) -> None:
        if later.seconds > self._longest_retry:
            raise ConfigurationError(
                f"handler {handler} asked to be tried again in {later.seconds:.0f} s, when its "
                f"inbox may have forgotten the message: say Store(longest_retry=...), now "
                f"{self._longest_retry:.0f} s"
            ) from later

    def received(self, handler: str, delivery: Delivery) -> None:
        """Note that a message came."""
        self._open().recorder.begun(handler, delivery, State.RECEIVED)

    def processing(self, handler: str, delivery: Delivery) -> None:
        """Note that its handler runs."""
        self._open().recorder.begun(handler, delivery, State.PROCESSING)

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Note what became of it."""
        opened = self._open()
        in_inbox = handler in opened.with_inbox
        opened.recorder.settled(handler, delivery, outcome, in_inbox=in_inbox)

    async def status(self, message_id: str) -> list[MessageStatus]:
        """What became of a message: one for each handler that had it, none if it is not known.

        A state other than success may be a quarter of a second old.

        :raises StoreUnavailableError: the database is away
        """
        opened = self._open()
        await opened.recorder.flush()
        return await message_status(opened.database, message_id)

    async def pending(self) -> int:
        """Messages that are committed and not yet confirmed by the broker.

        :raises StoreUnavailableError: the database is away
        """
        return await Outbox(self._open().database).count()

    async def _purge(self) -> int:
        database = self._open().database
        async with database.transaction(beside=True) as connection:
            return await inbox.purge(connection, database.flavour, self._clock())

    def _open(self) -> _Opened:
        if self._opened is None:
            raise StoreError("the store is not open: await store.open(), or use `async with store`")
        return self._opened


class _Opened:
    """What an open store has: its database, and what runs beside."""

    def __init__(self, database: Database, recorder: StateRecorder) -> None:
        self.database = database
        self.recorder = recorder
        self.relay: Relay | None = None
        self.with_inbox: set[str] = set()
        """Handlers that ask for a transaction: their successes are in the inbox."""
        self._notifier: Notifier | None = None
        if database.flavour.has_notify:
            self._notifier = Notifier(database)
        self._tasks: list[asyncio.Task[None]] = []
        self._relaying: asyncio.Task[None] | None = None
        self._spawn(self.recorder.run(), "states")
        if self._notifier is not None:
            self._spawn(self._notifier.run(), "notifier")

    def committed(self) -> None:
        """There is something in the outbox: tell this process's relay, or else all others."""
        if self.relay is not None:
            self.relay.wake()
        elif self._notifier is not None:
            self._notifier.notify()

    def start_relay(self, relay: Relay) -> asyncio.Task[None]:
        self.relay = relay
        if self._notifier is not None:
            self._spawn(listen(self.database, relay.wake), "listener")
        self._relaying = asyncio.create_task(relay.run(), name="mqkit store relay")
        return self._relaying

    async def stop_relay(self) -> None:
        if self.relay is not None and self._relaying is not None:
            self.relay.stop()
            await asyncio.wait([self._relaying], timeout=STOP_TIMEOUT)
            if not self._relaying.done():
                logger.warning("the relay did not end its round within %g s", STOP_TIMEOUT)
                self._relaying.cancel()
                await asyncio.wait([self._relaying])
            self.relay = self._relaying = None

    async def close(self) -> None:
        await self.stop_relay()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.recorder.flush()
        finally:
            await self.database.close()

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.create_task(work, name=f"mqkit store {what}")
        task.add_done_callback(_tell_of_failure)
        self._tasks.append(task)


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("%s ended: %s", task.get_name(), error, exc_info=error)


def _url_of_environment() -> URL:
    setting = Settings().store
    if setting is None:
        raise ConfigurationError(
            "the store has no URL: say Store('postgresql://...'), or set MQKIT_STORE"
        )
    return store_url(setting.get_secret_value())
