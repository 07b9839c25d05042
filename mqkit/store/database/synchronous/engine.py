"""Makes SQLAlchemy's engine for transactions that go on in threads: sqlite3, or psycopg.

Its sessions are set up as those of the asynchronous engine, and its transactions watched like them.
"""

from __future__ import annotations

import select
import sqlite3
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

from mqkit.errors import ConfigurationError
from mqkit.store.database.engine import (
    CONNECT_TIMEOUT,
    LOCK_TIMEOUT,
    STATEMENT_TIMEOUT,
    pin_sessions,
    quiet_loggers,
    server_settings,
    set_up_sqlite,
    watch_transactions,
    watch_unpinning,
)
from mqkit.system.machine import MACHINE, Machine

if TYPE_CHECKING:
    import psycopg

CANCEL_TIMEOUT = 2.0
"""Seconds that the request to cancel a statement on the server may take."""

REFUSE = "mqkit_refuse"
"""The execution option that holds what is called before each statement, and may raise."""

T = TypeVar("T")


def make_sync_engine(
    url: URL,
    pool: int,
    *,
    pooled: bool = False,
    statement_timeout: float | None = None,
    machine: Machine = MACHINE,
) -> Engine:
    """Make an engine, as `make_engine` makes one for the event loop.

    :raises ConfigurationError: the driver for it is not installed
    """
    quiet_loggers()
    if url.get_backend_name() == "sqlite":
        arguments = {
            "timeout": LOCK_TIMEOUT,
            "isolation_level": None,
            # A transaction ends where its thread is left to itself; SQLAlchemy sees to it that a
            # connection is in one thread at a time.
            "check_same_thread": False,
        }
        engine = create_engine(
            url.set(drivername="sqlite"), hide_parameters=True, connect_args=arguments
        )
        set_up_sqlite(engine)

        @event.listens_for(engine, "do_connect")
        def connect(_: Any, __: Any, arguments: Any, options: Any) -> sqlite3.Connection:
            return machine.connect_sqlite(*arguments, **options)

    else:
        timeout = STATEMENT_TIMEOUT if statement_timeout is None else statement_timeout
        engine = _postgres(url, pool, pooled=pooled, timeout=timeout)
    watch_transactions(engine)

    @event.listens_for(engine, "before_cursor_execute")
    def ask(connection: Any, *_: Any) -> None:
        refuse: Callable[[], None] | None = connection.get_execution_options().get(REFUSE)
        if refuse is not None:
            refuse()

    return engine


def _postgres(url: URL, pool: int, *, pooled: bool, timeout: float) -> Engine:
    try:
        connect = _connector(url, timeout, pooled=pooled)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "the driver with which `def` handlers use a store in PostgreSQL is not installed "
            f"({error}): pip install 'mqkit[postgres-sync]'"
        ) from error
    options: dict[str, Any] = {"isolation_level": "READ COMMITTED"} if pooled else {}
    engine = create_engine(
        URL.create("postgresql+psycopg"),
        creator=connect,
        pool_size=pool,
        # So many at a time are limited by who runs them. A run that was given up has its thread's
        # connection, which is closed, and none of these.
        max_overflow=-1,
        pool_timeout=LOCK_TIMEOUT,
        # Parameters may hold what must not be in a log.
        hide_parameters=True,
        # Else an INSERT has a `rowcount` of -1 with this driver, and with all others its rows: who
        # asks whether its key was there would take what is written twice for new.
        execution_options={"preserve_rowcount": True},
        **options,
    )
    if not pooled:
        pin_sessions(engine)
    watch_unpinning(engine)

    @event.listens_for(engine, "checkout")
    def replace_lost(connection: Any, *_: Any) -> None:
        # Seen without a question to the server: a session that idles has nothing to say but that
        # it ends.
        if connection.closed or _has_input(connection.fileno()):
            raise DisconnectionError

    return engine


def _connector(url: URL, timeout: float, *, pooled: bool) -> Callable[[], psycopg.Connection[Any]]:
    import psycopg  # noqa: PLC0415 - an extra, which others do without
    from psycopg import pq  # noqa: PLC0415 - as above

    class Bounded(psycopg.Connection[Any]):
        """A connection that waits for no answer for longer than a statement may take."""

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().wait(_until(time.monotonic() + timeout, gen), *args, **kwargs)
            except _TookTooLongError:
                # As the asynchronous driver: nobody waits for it any more, here or there.
                self._give_up()
                raise TimeoutError from None

        def _give_up(self) -> None:
            try:
                self.cancel_safe(timeout=CANCEL_TIMEOUT)
            except psycopg.Error:
                pass
            finally:
                self.close()

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    given = {name: _last(value) for name, value in url.query.items()}
    arguments: dict[str, Any] = {name: given.pop(name) for name in known & given.keys()}
    named = {
        "host": url.host,
        "port": url.port,
        "dbname": url.database,
        "user": url.username,
        "password": url.password,
    }
    arguments |= {name: value for name, value in named.items() if value is not None}
    arguments.setdefault("connect_timeout", int(CONNECT_TIMEOUT))
    # What is no parameter of libpq is a setting, as it is for asyncpg.
    settings = given if pooled else {**server_settings(), **given}
    if settings:
        options = [f"-c {name}={_escaped(str(value))}" for name, value in settings.items()]
        arguments["options"] = " ".join([*options, arguments.get("options", "")]).strip()
    # A session's prepared statements are those of others behind a pooler.
    threshold: dict[str, Any] = {"prepare_threshold": None} if pooled else {}

    def connect() -> psycopg.Connection[Any]:
        return Bounded.connect(**arguments, **threshold)

    return connect


def _has_input(file: int) -> bool:
    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select([file], [], [], 0)[0])
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))


class _TookTooLongError(Exception):
    """Raised where no answer came in time."""


def _until(deadline: float, steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Go on with what a driver waits for, which is woken without an answer now and then."""
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise _TookTooLongError
            wanted = steps.send(ready)
    except StopIteration as ended:
        result: T = ended.value
        return result


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, tuple) else value


def _escaped(setting: str) -> str:
    """Escape a value in `options`, where a space ends it."""
    return setting.replace("\\", "\\\\").replace(" ", "\\ ")
