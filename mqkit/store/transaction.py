"""The transaction that a handler is given which asks for one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Executable, Table
from sqlalchemy.engine import Connection, CursorResult, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from mqkit.checks.checked import Seconds, is_utf8, shown
from mqkit.clock import Clock, utc_now
from mqkit.drivers.frames import check_writable
from mqkit.errors import InvalidMessageError, StoreError
from mqkit.hooks.tracing import MessageTracing
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.message import HeaderValue, Message
from mqkit.publishing.outgoing import Outgoing, make_outgoing, to_message
from mqkit.store.database import direct
from mqkit.store.database.added_rows import AddedRows
from mqkit.store.database.dialects import Dialect
from mqkit.store.database.watch import watch_of
from mqkit.store.sagas import StoredSagas
from mqkit.topology import Exchange

if TYPE_CHECKING:
    import asyncpg

_OVER = "the transaction is over: its handler has returned; await what uses it before that"


class JoinedSession(Session):
    """A session of a transaction, whose savepoints begin where they are written."""

    def __init__(self, *args: Any, check: Callable[[], object], **kwargs: Any) -> None:
        """Join a transaction.

        :param check: is called before each statement, and raises where the transaction is over
        """
        super().__init__(*args, **kwargs)
        self._check = check

    def get_bind(self, *args: Any, **kwargs: Any) -> Engine | Connection:
        """Return its connection, unless its transaction is over.

        :raises StoreError: it is
        """
        self._check()
        return super().get_bind(*args, **kwargs)

    def begin_nested(self) -> SessionTransaction:
        """Send the savepoint now, and not with the first statement in it, or never.

        What is added by the transaction in between is of the savepoint.
        """
        nested = super().begin_nested()
        self.connection()
        return nested


class LentConnection(AsyncConnection):
    """SQLAlchemy's connection in a transaction, for as long as its handler runs.

    The connection itself may go on to other messages, which a task that is late must not write for.
    """

    def end(self) -> None:
        """Let nobody use it any more."""
        self.sync_connection = None

    @property
    def _proxied(self) -> Connection:
        if self.sync_connection is None:
            raise StoreError(_OVER)
        return self.sync_connection


class Collected:
    """Collects what a transaction publishes and what it adds, of whichever kind it is."""

    def __init__(
        self,
        app_id: str | None,
        limits: Limits,
        new_id: Callable[[], object] = uuid.uuid4,
        clock: Clock = utc_now,
    ) -> None:
        self._is_over = False
        self._clock = clock
        self.new_id = new_id
        """Makes an id that no other message has."""
        self._app_id = app_id
        self._limits = limits
        self.check_exchange: Callable[[Exchange], None] | None = None
        """Is asked about each `Exchange` that is published to; it may refuse it."""
        self.tracing: MessageTracing | None = None
        """Puts the context of its trace into each message, for the relay that publishes it."""
        self.exchanges: dict[str, Exchange] = {}
        """The exchanges that were given as such, by name."""
        self._messages: list[tuple[str | None, Message]] = []
        self._added: AddedRows | None = None

    @property
    def messages(self) -> tuple[tuple[str | None, Message], ...]:
        """Return what is to be published, each with its key, in order."""
        return tuple(self._messages)

    def end(self) -> None:
        """Let nobody use it any more: its handler has returned."""
        self._is_over = True

    def add(self, table: Table, *rows: Mapping[str, Any]) -> None:
        """Add rows to a table: with those of other messages, in one statement, before the commit.

        As `Session.add` of SQLAlchemy's ORM, it sends nothing: a row is checked and converted here,
        and written before the next statement of the transaction, by whichever road that goes, or
        before the commit. So a statement finds what was added before it. Rows of a table keep their
        order; a table that another one refers to is written before that. Columns without a value
        get their default; one that the database gives is not returned.

        What the database refuses (a unique key, a foreign key, a check) is raised where the rows
        are written: the handler fails by it as by a statement of its own, mostly after it has
        returned, and has no chance to catch it. `flush` writes them at once, and in a savepoint
        (`connection.begin_nested()`) its error may be caught.

        :param rows: values by the keys of their columns, as `insert(table).values(...)` takes them
        :raises RowError: the table has no such column, or it cannot hold the value; no row of the
            call is added, and the transaction is still good
        :raises StoreError: the transaction is over
        """
        if self._is_over:
            raise StoreError(
                "rows are not added: the transaction is over, its handler has returned"
            )
        added = self._added
        if added is None:
            added = self._added = self._find_added()
        added.add(self, table, rows)

    def _find_added(self) -> AddedRows:
        raise NotImplementedError

    def _add(self, key: str | None, outgoing: Outgoing) -> str:
        """Check a message, note it for the outbox, and return its id; raises as `publish`."""
        if key is not None and not _is_key(key):
            raise InvalidMessageError(
                f"{_named(outgoing)}: its key is text without NUL, or None, not {shown(key)}"
            )
        message = to_message(
            outgoing, self._app_id, limits=self._limits, new_id=self.new_id, clock=self._clock
        )
        if message.properties.headers:  # all else is checked, and short
            check_writable(message)
        if self._is_over:
            raise StoreError(
                f"{_named(outgoing)} is not published: the transaction is over, its handler has "
                "returned"
            )
        exchange = outgoing.exchange
        if isinstance(exchange, Exchange):
            if self.check_exchange is not None:
                self.check_exchange(exchange)
            self.exchanges[exchange.name] = exchange
        if self.tracing is not None:
            self.tracing.created(message)
        self._messages.append((key, message))
        return message.properties.message_id or ""


class Transaction(Collected):
    """A database transaction, committed when the handler returns and rolled back when it raises.

    What the handler writes through it, the note that the message is handled, and what it publishes
    through it are committed together, or not at all. It is one task's: statements of a transaction
    run one after the other. Nothing may be committed or rolled back by hand.
    """

    __mqkit_runtime_provided__ = True
    __mqkit_asynchronous__ = True
    __mqkit_transaction__ = True

    def __init__(
        self,
        connection: AsyncConnection,
        *,
        app_id: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        new_id: Callable[[], object] = uuid.uuid4,
        clock: Clock = utc_now,
        dialect: Dialect | None = None,
    ) -> None:
        super().__init__(app_id, limits, new_id, clock)
        self._connection = connection
        self._dialect = dialect
        self.was_used = False
        """Whether anything could reach the database by it."""
        self._lent: LentConnection | None = None
        self._session: AsyncSession | None = None

    def end(self) -> None:
        """Let nobody use it any more: its handler has returned, or failed."""
        super().end()
        if self._lent is not None:
            self._lent.end()

    def _used(self) -> AsyncConnection:
        if self._is_over:
            raise StoreError(_OVER)
        self.was_used = True
        return self._connection

    @property
    def connection(self) -> AsyncConnection:
        """SQLAlchemy's connection, for whatever is not here.

        :raises StoreError: the handler has returned, and its transaction is not its own any more
        """
        connection = self._used()
        if self._lent is None:
            self._lent = LentConnection(connection.engine, connection.sync_connection)
        return self._lent

    def _find_added(self) -> AddedRows:
        rows: AddedRows = watch_of(self._connection).rows
        return rows

    @property
    def saga_rows(self) -> StoredSagas:
        """Where sagas are kept, within this transaction; for `mqkit.sagas`."""
        assert self._dialect is not None, "a store has made it"
        return StoredSagas(self._used, self._dialect, self._clock, self.flush)

    @property
    def session(self) -> AsyncSession:
        """Return an ORM session in this transaction; what it holds is flushed before the commit."""
        if self._session is None:
            self._session = AsyncSession(
                self._used(),
                sync_session_class=JoinedSession,
                check=self._used,
                expire_on_commit=False,
                # A commit by hand then ends a savepoint, and never this transaction.
                join_transaction_mode="create_savepoint",
            )
        return self._session

    @property
    def driver_connection(self) -> asyncpg.Connection:
        """Return asyncpg's connection, in this transaction, for statements that shall cost less.

        What is done with it is committed with the rest; its errors are asyncpg's own, and are
        judged like those of `execute`: a deadlock's victim costs no attempt, say. Its
        `transaction()` makes a savepoint. It is used in turn with `execute` and never beside it,
        and not after the handler has returned.

        COMMIT and ROLLBACK are mqkit's here, too: they are not sent.

        :raises StoreError: the store is on SQLite
        """
        watch = watch_of(self._used())
        if watch.driver is None:
            raise StoreError(
                "transaction.driver_connection is asyncpg's, which a store on SQLite does not "
                "have: use transaction.execute(...)"
            )
        watch.driver_is_lent = True
        driver: asyncpg.Connection = watch.driver
        return driver

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement: SQLAlchemy's `AsyncConnection.execute`.

        An INSERT, UPDATE or DELETE that returns no rows and is kept (a constant of the module, say)
        takes half of the time that one takes which is made for each message.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        connection = self._used()
        watch = watch_of(connection)
        if watch.direct is not None:
            known = watch.direct.find(connection, watch, statement, parameters)
            if known is not None:
                if watch.rows.waiting:
                    await watch.rows.write_on(connection, watch)
                return await direct.execute(connection, watch, known, statement, parameters)
        return await connection.execute(statement, parameters)

    async def publish(
        self,
        exchange: Exchange | str,
        routing_key: str,
        body: object,
        *,
        key: str | None = None,
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        type: str | None = None,  # noqa: A002 - the property's name
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
        mandatory: bool | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
    ) -> str:
        """Publish a message if, and only if, this transaction is committed; return its id.

        A relay publishes it with a confirm, soon after the commit, and again under the same
        `message_id` where the confirm did not come. Messages of the same `key` (an account, say)
        are published in the order of their commits, each after the confirm of the one before it;
        those without one in no order that is promised.

        With `delay` or `at` the broker gets it as soon as any other, and publishes it later: a
        delay begins at this call, and the time in the outbox is part of it. Its `key` orders when
        the broker gets it, and holds nothing up until it is due. It cannot be called back.

        An `Exchange` is kept with the message, so that the relay declares it where it is missing.
        `mandatory` is by default as the `Exchange` says.

        What cannot be published is refused here, by the checks of `Publisher.publish` and by
        encoding all but the body: in the outbox it would hold up its key. The broker's own limit
        for headers (`frame_max`) is not known here; `Limits` is what holds them below it.

        :raises InvalidMessageError: it cannot be encoded, or is over a limit; the transaction is
            still good
        :raises ConfigurationError: its service says what it publishes to (`publishes`), and this
            exchange is not among it; the transaction is still good
        """
        return self._add(
            key,
            make_outgoing(  # by their order, which costs less than their names
                exchange,
                routing_key,
                body,
                message_id,
                headers,
                None,
                correlation_id,
                reply_to,
                type,
                expiration,
                priority,
                persistent,
                mandatory,
                delay,
                at,
            ),
        )

    async def flush(self) -> None:
        """Send what was added, and what the ORM session holds; done before the commit anyway.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        await self.flush_session()
        if self._added is not None:
            connection = self._used()
            await self._added.write_on(connection, watch_of(connection))

    async def flush_session(self) -> None:
        """Send what the ORM session holds to the database; for mqkit's own use."""
        if self._session is not None:
            await self._session.commit()
            await self._session.close()
            self._session = None


def _named(outgoing: Outgoing) -> str:
    return f"message {shown(outgoing.message_id)} to routing key {shown(outgoing.routing_key)}"


def _is_key(key: object) -> bool:
    return isinstance(key, str) and "\0" not in key and is_utf8(key)
