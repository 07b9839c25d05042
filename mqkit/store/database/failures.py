"""Tells whose fault an error of a database is: its own, or the statement's that met it."""

from __future__ import annotations

import sqlite3
import sys
from enum import Enum, auto

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Fault(Enum):
    """Whom an error blames."""

    DATABASE = auto()
    """It is away or out of room, or undid this transaction for another's sake."""
    TIMEOUT = auto()
    """The statement took too long. Only asking the database tells which of the two it was."""
    STATEMENT = auto()
    """The statement, or what it was asked to do."""


_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Primary result codes (https://sqlite.org/rescode.html)."""

_SQLITE_LASTING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})

_SQLSTATE_CLASSES = ("08", "57P", "58")
"""Connection lost, shut down by an operator, a failure of its system."""

_SQLSTATES = frozenset(
    {
        "40001",  # could not serialize
        "40P01",  # chosen as a deadlock's victim
        "55P03",  # a lock was not available within lock_timeout, which the store itself sets
        "53000",  # out of resources
        "53100",  # the disk is full
        "53300",  # too many connections
        "25006",  # read only: a former primary, after a failover
    }
)
"""https://www.postgresql.org/docs/current/errcodes-appendix.html."""

_OF_WHOSE_STATEMENT = frozenset(
    {
        "57014",  # cancelled: by statement_timeout, or by an administrator
        "25P03",  # idle in a transaction for too long
        "25P04",  # a transaction that took too long
        "53200",  # out of memory, for locks too
        "53400",  # over a limit that is configured (temp_file_limit)
    }
)
"""What the database does to a statement while it is well itself.

A handler's own counts for its policy. mqkit's own ones wait for other transactions, and say nothing
against the message.
"""

_LASTING = frozenset({"53100", "53300"})

_LOST = ("08", "57P01", "57P02")
"""The connection is closed, by whichever side."""

_CLOSED = "connection is closed"
"""What asyncpg says of a connection that was closed before."""


def fault_of(error: BaseException, *, of_handler: bool, lost: bool = False) -> Fault:
    """Tell whom an error that a database gave blames.

    :param of_handler: whether a handler's statement met it, and not one of mqkit's own
    :param lost: whether the connection is known to be closed
    """
    # asyncpg passes on what the socket said, and its own TimeoutError, as they are; the latter is
    # an OSError too, without a number.
    if isinstance(error, TimeoutError) and error.errno is None:
        return Fault.TIMEOUT if of_handler else Fault.DATABASE
    if isinstance(error, (OSError, PoolTimeoutError)):
        return Fault.DATABASE
    if not isinstance(error, DBAPIError) and not is_of_driver(error):
        return Fault.STATEMENT
    if sqlstate(error) in _OF_WHOSE_STATEMENT or _is_outdated(error):
        return Fault.STATEMENT if of_handler else Fault.DATABASE
    is_away = lost or is_lost(error) or _is_away(error)
    return Fault.DATABASE if is_away else Fault.STATEMENT


def is_of_driver(error: BaseException) -> bool:
    """Tell whether asyncpg raised an error, and SQLAlchemy has not wrapped it."""
    # Where it was never imported it raised nothing, and it takes its time to import.
    asyncpg = sys.modules.get("asyncpg")
    if asyncpg is None:
        return False
    kinds = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return isinstance(error, kinds)


def _is_outdated(error: BaseException) -> bool:
    """Tell whether a statement was prepared before a migration; it is prepared anew after this."""
    if not is_of_driver(error):
        return False
    exceptions = sys.modules["asyncpg"].exceptions
    kinds = (exceptions.InvalidCachedStatementError, exceptions.OutdatedSchemaCacheError)
    return isinstance(error, kinds)


def _is_away(error: BaseException) -> bool:
    code = sqlstate(error)
    if code is not None:
        return code in _SQLSTATES or code.startswith(_SQLSTATE_CLASSES)
    return _sqlite_code(error) in _SQLITE


def is_lasting(error: BaseException) -> bool:
    """Tell whether an error is a state of the whole database, which no message brings about."""
    return sqlstate(error) in _LASTING or _sqlite_code(error) in _SQLITE_LASTING


def is_lost(error: BaseException) -> bool:
    """Tell whether an error says that the connection is closed."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    if not is_of_driver(error):
        return False
    # asyncpg has a code of the server's for one that it loses, and none for one that is lost.
    code = sqlstate(error)
    return _CLOSED in str(error) if code is None else code.startswith(_LOST)


def sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's code of an error, where it has one."""
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "sqlstate", None)
    else:
        code = getattr(error, "sqlstate", None) if is_of_driver(error) else None
    return code if isinstance(code, str) else None


def _sqlite_code(error: BaseException) -> int | None:
    result = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    # The low byte is the primary code of an extended one.
    return result & 0xFF if isinstance(result, int) else None
