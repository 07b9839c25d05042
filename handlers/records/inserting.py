"""Makes INSERT statements that may meet a row of their key, on SQLite and on PostgreSQL."""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_into(
    connection: Connection | AsyncConnection, table: Table
) -> postgresql.Insert | sqlite.Insert:
    """Make an INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
