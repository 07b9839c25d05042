"""Which errors of a database say nothing against the statement: trying again may help."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

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

_SQLSTATE_CLASSES = ("08", "53", "57P", "58")
"""Connection lost, out of resources, shut down by an operator, a failure of its system."""

_SQLSTATES = frozenset(
    {
        "40001",  # could not serialize
        "40P01",  # chosen as a deadlock's victim
        "55P03",  # a lock was not available within lock_timeout
        "25P03",  # idle in a transaction for too long
        "25006",  # read only: a former primary, after a failover
    }
)
"""https://www.postgresql.org/docs/current/errcodes-appendix.html."""


def is_transient(error: BaseException) -> bool:
    """Whether an error of a statement or a commit blames the database, and not the statement."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "sqlstate", None)
    if isinstance(code, str):
        return code in _SQLSTATES or code.startswith(_SQLSTATE_CLASSES)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if isinstance(code, int):
        return (code & 0xFF) in _SQLITE
    # A connection that was lost under a statement comes without any code.
    return isinstance(error, InterfaceError)
