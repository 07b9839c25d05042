"""Runs a transaction in the thread that calls, and decides whether it is committed or given up.

A thread cannot be stopped. Where nobody waits for its run any more (a handler's timeout, the end of
the service), its transaction is to be rolled back, however long the thread goes on, and the outcome
of the message says so. `CommitGate` decides which of the two it is: a run that was given up is
refused every further statement and its commit, and a commit that has begun is waited for.

Its locks would stay until the thread ends, SQLite's only write lock among them. So the transaction
is aborted from outside, in a way that lets the thread write nothing afterwards, by whatever road.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mqkit.clock import monotonic
from mqkit.errors import StoreError
from mqkit.store.database.added_rows import AddedRows
from mqkit.store.database.dialects import Dialect
from mqkit.store.database.engine import LOCK_TIMEOUT
from mqkit.store.database.judging import ErrorTeller, first_line
from mqkit.store.database.row_plans import RowPlans
from mqkit.store.database.synchronous.engine import REFUSE, make_sync_engine
from mqkit.store.database.watch import WATCH, Watch, check_going_on
from mqkit.system.machine import MACHINE, Machine

logger = logging.getLogger(__name__)


class CommitGate:
    """Decides once, for a run in a thread, whether it is committed or given up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._aborting = threading.Lock()
        self._abort: Callable[[], bool] | None = None
        self._is_given_up = self._is_committing = self._is_running = False
        self._ended: Callable[[], None] | None = None

    def begin(self) -> None:
        """Note that the thread has begun.

        :raises StoreError: nobody waits for it any more
        """
        with self._lock:
            self._check()
            self._is_running = True

    def check(self) -> None:
        """Refuse what a thread wants to do after its run was given up.

        :raises StoreError: it was
        """
        with self._lock:
            self._check()

    def commit(self) -> None:
        """Decide for the commit.

        :raises StoreError: the run was given up before
        """
        with self._lock:
            self._check()
            self._is_committing = True

    def give_up(self) -> bool:
        """Decide against the commit, and tell whether that could be: it may have begun before."""
        with self._lock:
            self._is_given_up = not self._is_committing
            return self._is_given_up

    def connected(self, abort: Callable[[], bool]) -> None:
        """Note how the transaction is aborted from outside of its thread."""
        with self._aborting:
            self._abort = abort

    def disconnecting(self) -> bool:
        """End the time in which the run can be given up, and return whether it was."""
        with self._aborting:
            self._abort = None
        return self._is_given_up

    def abort(self) -> bool:
        """Abort the transaction of a run that was given up, and tell whether its locks are free."""
        with self._aborting:
            return self._is_given_up and self._abort is not None and self._abort()

    def end(self) -> None:
        """Note that the thread does nothing more for this run."""
        with self._lock:
            self._is_running = False
            ended = self._ended
        if ended is not None:
            ended()

    def when_ended(self, call: Callable[[], None]) -> bool:
        """Have something called, in its thread, when the run ends; False: none goes on."""
        with self._lock:
            if self._is_running:
                self._ended = call
            return self._is_running

    def _check(self) -> None:
        if self._is_given_up:
            raise StoreError(
                "the handler's run was given up (it timed out, or its service ended), and its "
                "transaction is rolled back; delivery.overdue tells a handler of its timeout"
            )


class SyncDatabase:
    """Runs transactions of a store in threads, each on a connection of its own."""

    def __init__(
        self,
        url: URL,
        dialect: Dialect,
        *,
        pool: int,
        pooled: bool,
        statement_timeout: float | None,
        machine: Machine = MACHINE,
    ) -> None:
        """Connect to nothing yet.

        :raises ConfigurationError: the driver for it is not installed
        """
        self.dialect = dialect
        self._is_closed = False
        self._errors = ErrorTeller(
            url,
            statement_timeout=statement_timeout,
            savepoint="with transaction.connection.begin_nested()",
        )
        self._engine: Engine = make_sync_engine(
            url, pool, pooled=pooled, statement_timeout=statement_timeout, machine=machine
        )
        self._plans = RowPlans(self._engine.dialect)

    def close(self) -> None:
        """Disconnect; what a thread still uses is closed when it lets go of it."""
        self._is_closed = True
        self._engine.pool.dispose()

    @contextlib.contextmanager
    def transaction(self, gate: CommitGate) -> Iterator[tuple[Connection, Watch]]:
        """Run a transaction: committed at the end of the block, if the gate says so.

        :raises StoreUnavailableError: the database failed; where it failed in the commit, nobody
            knows whether the transaction is committed
        :raises StoreError: a statement had failed in it, or somebody ended it by hand, or the run
            was given up
        """
        watch = Watch(rows=AddedRows(self._plans))
        connection = self._connect(watch, gate)
        try:
            self.dialect.sync_begun(connection, LOCK_TIMEOUT)
            yield connection, watch
            watch.of_handler = False
            check_going_on(connection, watch)
            if watch.error is not None:
                self.dialect.sync_check_alive(connection)
            self.dialect.sync_committing(connection, unpinned=watch.unpinned)
            gate.commit()
            watch.may_commit = True
            connection.commit()
            watch.in_doubt = False
            watch.is_committed = True
        except (SQLAlchemyError, OSError, ExceptionGroup) as raised:
            judged = self._errors.judged(watch, raised, monotonic() - watch.since)
            if judged is raised:
                raise
            raise judged from judged.__cause__
        finally:
            # What was not committed is rolled back.
            given_up = gate.disconnecting()
            throw_away = watch.in_doubt or given_up or watch.changed_session
            self._let_go(connection, throw_away=throw_away)

    def _connect(self, watch: Watch, gate: CommitGate) -> Connection:
        connection: Connection | None = None
        try:
            connection = self._engine.connect()
            connection.execution_options(**{WATCH: watch, REFUSE: gate.check})
            driver = connection.connection.driver_connection
            gate.connected(functools.partial(self.dialect.sync_abort, driver))
            watch.begun = connection.begin()
        except BaseException as error:
            if connection is not None:
                self._let_go(connection, throw_away=gate.disconnecting())
            if isinstance(error, SQLAlchemyError | OSError):
                unavailable = self._errors.unavailable(error)
                raise unavailable from unavailable.__cause__
            raise
        watch.since = monotonic()
        return connection

    def _let_go(self, connection: Connection, *, throw_away: bool = False) -> None:
        """Give a connection back to the pool; one that cannot be rolled back is closed."""
        try:
            if throw_away:
                self.dialect.sync_throw_away(connection)
            connection.close()
        except (SQLAlchemyError, OSError) as error:
            logger.debug("a connection was lost before it was given back: %s", first_line(error))
            with contextlib.suppress(SQLAlchemyError, OSError):
                connection.invalidate()
        if self._is_closed:
            self._engine.pool.dispose()
