"""Watches a transaction: which of its errors came from the database, and who ended it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreError
from mqkit.store.database.failures import Fault, fault_of, is_of_driver, sqlstate
from mqkit.store.database.statements.kinds import Kind, kind_of

WATCH = "mqkit_watch"
"""The execution option that holds a transaction's `Watch`."""

_ABORTED = "25P02"
"""A statement in a transaction of which another has failed."""


@dataclass(slots=True)
class Watch:
    """Records what happened in one transaction, as its errors are judged by that."""

    error: BaseException | None = None
    """The latest error of a statement, also where the handler has caught it.

    What PostgreSQL answers to each statement after a failed one is not counted.
    """
    fault: Fault = Fault.STATEMENT
    """Whom that one blames."""
    is_ours: bool = False
    """Whether a statement of mqkit's met it."""
    transient: bool = False
    """Whether one of them blamed the database."""
    of_handler: bool = False
    """Whether statements are the handler's now, and not mqkit's."""
    unpinned: bool = False
    """Whether a statement had to do with how a commit gets to the disk."""
    changed_session: bool = False
    """Whether a statement of a handler's left something with the session: nobody gets it after."""
    changed_settings: bool = False
    """Whether one changed what statements after it in the transaction find, mqkit's too."""
    changed_in_turn: bool = False
    """Whether one did either since the turn of the latest handler began."""
    may_commit: bool = False
    is_committed: bool = False
    in_doubt: bool = False
    """Whether its connection may still be in the transaction, or in the middle of a statement."""
    driver: Any = None
    """asyncpg's connection, once it is in the transaction."""
    sender: Any = None
    """What sends statements without SQLAlchemy's layers: a `direct.Sender`."""
    direct: Any = None
    """The `DirectStatements` of its engine, where nobody watches what is executed."""
    rows: Any = None
    """The `AddedRows` that wait to be written in it; None: it only reads."""
    driver_is_lent: bool = False
    """Whether the handler has asyncpg's connection."""
    ended: bool = False
    """Whether the handler sent a COMMIT or a ROLLBACK by asyncpg's connection."""

    lost: bool = False
    """Whether asyncpg's connection is closed."""
    begun: Any = None
    """SQLAlchemy's transaction."""
    since: float = 0.0
    """When the transaction began: seconds of the event loop's clock, or of the thread's."""

    def begin_turn(self) -> None:
        """Note that a handler's statements follow, for which no error came yet."""
        self.error = None
        self.changed_in_turn = False
        self.of_handler = True
        self.rows.begin_turn()

    def about_to_run(self, statement: str) -> None:
        """Note what a statement does to the session, and refuse one that ends the transaction.

        :raises StoreError: it does; it is not sent, and the transaction is still good
        """
        kind = kind_of(statement)
        if kind is Kind.PLAIN or self.begun is None or self.may_commit:
            return
        if kind is Kind.ENDS:
            if not self.begun.is_active:  # it was rolled back, and SQLAlchemy begins another one
                raise _ended()
            raise StoreError(
                "a statement that begins or ends a transaction is not sent: the store's is "
                "committed when the handler returns, and rolled back when it raises; "
                "begin_nested() makes a savepoint"
            )
        if self.of_handler:
            self.changed_session = self.changed_session or kind is Kind.SESSION
            self.changed_settings = self.changed_in_turn = True

    def saw(self, error: BaseException, *, lost: bool = False) -> None:
        """Note an error that the database gave, unless it only says that one had come before.

        :param lost: whether its connection is closed
        """
        if is_aborted(error):
            return
        self.error = error
        self.is_ours = not self.of_handler
        self.lost = self.lost or lost
        self.fault = fault_of(error, of_handler=self.of_handler, lost=lost)
        self.transient = self.transient or self.fault is Fault.DATABASE

    def culprit(self, raised: Exception) -> Exception:
        """Return the database's error from a group of tasks' errors; else what was raised."""
        if isinstance(raised, ExceptionGroup):
            found = raised.subgroup(lambda error: error is self.error)
            if found is not None and isinstance(self.error, Exception):
                return self.error
        return raised

    def fault_of(self, error: BaseException) -> Fault:
        """Tell whom an error blames: the database, or else the statement and its caller."""
        if error is self.error:
            return self.fault
        # The caller swallowed the cause, and went on.
        if is_aborted(error) or isinstance(error, PendingRollbackError):
            return Fault.DATABASE if self.transient else Fault.STATEMENT
        # Prepared statements and cursors of asyncpg do not tell their connection of an error.
        if self.driver_is_lent and is_of_driver(error):
            return fault_of(error, of_handler=True)
        return Fault.STATEMENT


def check_going_on(connection: Connection | None, watch: Watch) -> None:
    """Raise where the handler has ended the transaction by a COMMIT or a ROLLBACK of its own.

    :raises StoreError: somebody has
    """
    begun, sender = watch.begun, watch.sender
    is_same = begun.is_active and connection and connection.get_transaction() is begun
    is_within = sender is None or sender.is_closed or sender.goes_on
    if watch.ended or not (is_same and is_within):
        raise _ended()


def _ended() -> StoreError:
    return StoreError("the store's transaction was ended by hand, and is rolled back")


def is_aborted(error: BaseException) -> bool:
    """Tell whether an error only says that an earlier statement of its transaction failed."""
    return sqlstate(error) == _ABORTED


def watch_of(connection: AsyncConnection) -> Watch:
    """Return the `Watch` of the transaction that a connection is in."""
    watch = find_watch(connection.sync_connection)
    assert watch is not None
    return watch


def find_watch(connection: Any) -> Watch | None:
    """Return the `Watch` of a connection of SQLAlchemy's, if it has one."""
    if connection is None:
        return None
    watch: Watch | None = connection.get_execution_options().get(WATCH)
    return watch
