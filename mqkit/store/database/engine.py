"""Makes SQLAlchemy's engine for a store, and watches its transactions.

An engine's transactions are watched: which of its errors came from the database, whether one was
swallowed, what was added and is to be written before a statement, and that nobody but mqkit
commits.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from functools import partial
from typing import Any

from sqlalchemy import URL, AdaptedConnection, Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from mqkit.errors import StoreError
from mqkit.store.database.opening import open_postgres, open_sqlite
from mqkit.store.database.sqlite.driver import Driver
from mqkit.store.database.sqlite.inline import LOOK
from mqkit.store.database.watch import find_watch
from mqkit.system.machine import MACHINE, Machine

LOCK_TIMEOUT = 30.0
"""Seconds that a statement waits for a lock, before its message is tried again later."""

STATEMENT_TIMEOUT = 60.0
"""Seconds for a statement on PostgreSQL, where a store says nothing else.

A server that hangs would hold its callers for ever.
"""

CONNECT_TIMEOUT = 10.0
"""Seconds."""

BESIDE = 4
"""Connections for what is not a handler's: the listener, two of the relay, all else in turn.

They are its own, so that handlers that use up the pool never hold up what they have committed.
"""

READING = "mqkit_reading"
"""The execution option of a transaction that only reads."""

LOGGERS = ("sqlalchemy", "aiosqlite", "asyncpg", "psycopg")
"""What the libraries below log with."""

_WRITE_AHEAD = "PRAGMA journal_mode = WAL"

_PIN_SESSION = (
    "SELECT set_config('synchronous_commit', CASE s WHEN 'off' THEN 'on' ELSE s END, false) "
    "FROM current_setting('synchronous_commit') AS s"
)
"""With 'off', a server that crashes forgets transactions whose messages are acked; what is between
'local' and 'remote_apply' is a choice of what more than the server's own disk is waited for."""


def make_engine(
    url: URL,
    pool: int,
    *,
    pooled: bool = False,
    statement_timeout: float | None = None,
    machine: Machine = MACHINE,
) -> AsyncEngine:
    """Make an engine for SQLite, or for PostgreSQL with `pool` connections and `BESIDE` more.

    :param pooled: whether a pooler (PgBouncer) stands before the server, which may give each
        transaction another session
    :param statement_timeout: seconds; None: as long as others
    """
    quiet_loggers()
    if url.get_backend_name() == "sqlite":
        engine = _sqlite(url, machine)
    else:
        engine = _postgres(url, pool, pooled=pooled, timeout=statement_timeout)
    watch_transactions(engine.sync_engine)
    return engine


def server_settings() -> dict[str, str]:
    """Return the settings of a session of PostgreSQL, where a connection is one session."""
    return {
        "application_name": "mqkit",
        "lock_timeout": str(int(LOCK_TIMEOUT * 1000)),
        # A claim reads what was committed before it got its locks, and no older snapshot.
        "default_transaction_isolation": "read committed",
        # A worker that vanished lets go of its rows within half a minute, not 2 hours.
        "tcp_keepalives_idle": "15",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }


def quiet_loggers() -> None:
    """Keep the libraries below from logging parameters of statements."""
    for name in LOGGERS:
        # One that the application chose a level for keeps it.
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)


def watch_transactions(engine: Engine) -> None:
    """Watch an engine's transactions: note errors, refuse commits, write what was added in time."""

    @event.listens_for(engine, "handle_error")
    def note(context: Any) -> None:
        watch = find_watch(context.connection)
        if watch is not None:
            watch.saw(context.sqlalchemy_exception or context.original_exception)

    @event.listens_for(engine, "commit")
    def refuse(connection: Any) -> None:
        watch = find_watch(connection)
        if watch is None:
            return
        watch.in_doubt = True
        if not watch.may_commit:
            raise StoreError(
                "a transaction of the store is not committed by hand: it is when the handler "
                "returns; begin_nested() makes a savepoint"
            )

    @event.listens_for(engine, "before_cursor_execute")
    def write_added(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        watch = find_watch(connection)
        if watch is not None and watch.rows is not None:
            watch.about_to_run(statement)
            watch.rows.before(statement, connection, watch)


def watch_unpinning(engine: Engine) -> None:
    """Note which transactions may have changed how their commit gets to the disk."""

    @event.listens_for(engine, "before_cursor_execute")
    def look(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "synchronous_commit" in statement and (watch := find_watch(connection)) is not None:
            watch.unpinned = True


def _postgres(url: URL, pool: int, *, pooled: bool, timeout: float | None) -> AsyncEngine:
    # The URL's parameters are libpq's (sslmode, ...), which asyncpg knows in a DSN only.
    query = url.set(drivername="postgresql", username=None, password=None, host=None, port=None)
    dsn = query.set(database=None).render_as_string(hide_password=False)
    from mqkit.store.database.postgresql.connection import StoreConnection  # noqa: PLC0415 - needs the extra

    arguments: dict[str, Any] = {
        "async_creator_fn": open_postgres,
        "connection_class": StoreConnection,
        "dsn": dsn.replace("postgresql://?", "postgresql:///?") if url.query else None,
        "timeout": CONNECT_TIMEOUT,
        "command_timeout": STATEMENT_TIMEOUT if timeout is None else timeout,
    }
    options: dict[str, Any] = {}
    if pooled:
        # What a session would have to remember, it may not: the next statement's may be another.
        arguments["statement_cache_size"] = arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = lambda: ""
        options["isolation_level"] = "READ COMMITTED"
    else:
        arguments["server_settings"] = server_settings()
    engine = create_async_engine(
        url.set(query={}),
        pool_size=pool + BESIDE,
        max_overflow=0,
        pool_timeout=LOCK_TIMEOUT,
        # Parameters may hold what must not be in a log.
        hide_parameters=True,
        connect_args=arguments,
        **options,
    )
    if pooled:
        _set_up_in_transactions(engine.sync_engine.dialect)
    else:
        pin_sessions(engine.sync_engine)
    watch_unpinning(engine.sync_engine)

    @event.listens_for(engine.sync_engine, "checkout")
    def replace_lost(connection: Any, *_: Any) -> None:
        # Seen without a question to the server, which asking each time would cost.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    @event.listens_for(engine.sync_engine, "checkin")
    def throw_away(connection: Any, record: Any) -> None:
        # A rollback fails while another task's statement is under way. Kept, the connection would
        # hold the locks of what it did, and fail whatever comes to it from then on.
        if connection is not None and connection.driver_connection.is_in_transaction():
            record.invalidate()

    return engine


def pin_sessions(engine: Engine) -> None:
    """Make commits wait for the disk, whatever the database, the user or a later reload says."""

    @event.listens_for(engine, "connect")
    def pin(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(_PIN_SESSION)
        cursor.close()
        connection.commit()


def _set_up_in_transactions(dialect: Any) -> None:
    """Make SQLAlchemy set up a connection's codecs within transactions, each in one session."""
    for name in ("setup_asyncpg_json_codec", "setup_asyncpg_jsonb_codec"):
        set_up = getattr(dialect, name)

        async def in_transaction(connection: Any, set_up: Any = set_up) -> None:
            async with connection.driver_connection.transaction():
                await set_up(connection)

        setattr(dialect, name, in_transaction)


def _sqlite(url: URL, machine: Machine) -> AsyncEngine:
    arguments = {
        "timeout": LOCK_TIMEOUT,
        "isolation_level": None,
        "async_creator_fn": partial(open_sqlite, machine),
    }
    engine = create_async_engine(
        url,
        module=Driver(),
        poolclass=AsyncAdaptedQueuePool,
        hide_parameters=True,
        connect_args=arguments,
    )
    set_up_sqlite(engine.sync_engine)

    @event.listens_for(engine.sync_engine, "handle_error")
    def keep(context: Any) -> None:
        # What was cancelled is still done, in the connection's thread and in order. Closed as lost,
        # it could keep its transaction, and with it the only write lock, for as long as something
        # refers to one of its cursors (https://sqlite.org/c3ref/close.html); rolled back, it is as
        # good as new.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False

    return engine


def _write_ahead(connection: Any, cursor: Any) -> None:
    """Switch a database file to write-ahead logging, also while another process does the same.

    Where another connection writes to the database, SQLite refuses to switch it at once, without
    waiting for its timeout as for other locks. So of several that switch a new one some would fail.
    What is opened in threads has been opened on the loop before, and is switched already.
    """
    if not isinstance(connection, AdaptedConnection):
        cursor.execute(_WRITE_AHEAD)
        return
    now = asyncio.get_running_loop().time
    end = now() + LOCK_TIMEOUT
    while True:
        try:
            cursor.execute(_WRITE_AHEAD)
        except sqlite3.OperationalError as error:
            # The lowest byte: an extended code says more, such as that a log is being recovered.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or now() >= end:
                raise
        else:
            return
        connection.run_async(lambda _: asyncio.sleep(LOOK))


def set_up_sqlite(engine: Engine) -> None:
    """Make commits of SQLite wait for the disk, and transactions begin with the lock they need."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        _write_ahead(connection, cursor)
        # With NORMAL, a power cut could undo commits whose messages are acked.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # The write lock at once: a transaction that read first could not always get it later.
        reading = connection.get_execution_options().get(READING, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
