"""Makes INSERT statements that may meet a row of their key, on SQLite and on PostgreSQL."""

from __future__ import annotations

import functools

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_into(
    connection: Connection | AsyncConnection, table: Table
) -> postgresql.Insert | sqlite.Insert:
    """Make an INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return _insert(connection.dialect.name, table)


def insert_new(
    connection: Connection | AsyncConnection, table: Table
) -> postgresql.Insert | sqlite.Insert:
    """Return the INSERT that leaves a row of its key as it is; its `rowcount` is 0 then.

    It is the same object each time: to make a statement takes longer than all else that SQLAlchemy
    does with it.
    """
    return _insert_new(connection.dialect.name, table)


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@functools.cache
def _insert_new(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return _insert(dialect, table).on_conflict_do_nothing()
