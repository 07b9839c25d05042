"""Runs the statements that each message of a saga needs, on the drivers' own connections.

SQLAlchemy's layers cost several times what such a statement does. A change of a saga and its entry
in the history are one way to the database and back.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.store.database.postgresql import driver
from mqkit.store.database.sqlite.thread import SqliteConnection
from mqkit.store.database.watch import watch_of

T = TypeVar("T")

_ROW = ", ".join(SagaRow.__slots__)
_ENTRY = ", ".join(SagaEntry.__slots__)
_ENTRY_TYPES = ("text", "text", "timestamptz", *("text" for _ in SagaEntry.__slots__[3:]))

# Locked: who comes second waits, and sees what the first one left.
_FIND = f"SELECT {_ROW} FROM mqkit_saga WHERE name = $1 AND id = $2"  # noqa: S608 - a table of ours

_KEPT = "date_trunc('minute', now() + CAST($11 AS interval) + interval '1 minute')"
"""By the server's clock, which all hosts share; null is kept until it is completed."""

_INSERT = (
    f"INSERT INTO mqkit_saga ({_ROW}, keep_until) "  # noqa: S608
    f"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, {{kept}}) ON CONFLICT DO NOTHING"
)

_UPDATE = (
    "UPDATE mqkit_saga SET version = $3, state_version = $4, status = $5, state = $6, "
    "progress = $7, started_at = $8, updated_at = $9, completed_at = $10, keep_until = {kept} "
    "WHERE name = $1 AND id = $2 AND version = $3 - 1"
)

_NOTE = f"INSERT INTO mqkit_saga_history ({_ENTRY}) "


class SagaStatements(Protocol):
    """Finds and writes the rows of sagas, in the transaction that a connection is in."""

    async def find(self, connection: AsyncConnection, name: str, saga_id: str) -> SagaRow | None:
        """Return a saga, which no other transaction may change until this one ends; or None."""
        ...

    async def write(
        self,
        connection: AsyncConnection,
        row: SagaRow,
        entry: SagaEntry,
        *,
        is_new: bool,
        keep: timedelta | None,
        now: datetime,
    ) -> bool:
        """Insert or update a saga, and add an entry; False: another message was quicker."""
        ...

    async def note(self, connection: AsyncConnection, entry: SagaEntry) -> None:
        """Add an entry."""
        ...


def _of_postgres(statement: str) -> str:
    """Return the statement with the entry's, whose parameters follow those of the row."""
    changed = statement.format(kept=_KEPT)
    numbers = range(12, 12 + len(_ENTRY_TYPES))
    entry = ", ".join(
        f"CAST(${number} AS {kind})" for number, kind in zip(numbers, _ENTRY_TYPES, strict=True)
    )
    noted = f"{_NOTE} SELECT {entry} FROM changed"  # noqa: S608
    return f"WITH changed AS ({changed} RETURNING 1) {noted} RETURNING 1"


class PostgresSagas:
    """Runs them by asyncpg."""

    _find = f"{_FIND} FOR UPDATE"
    _write = _of_postgres(_UPDATE), _of_postgres(_INSERT)
    _note = f"{_NOTE} VALUES ({', '.join(f'${n}' for n in range(1, 1 + len(_ENTRY_TYPES)))})"

    async def find(self, connection: AsyncConnection, name: str, saga_id: str) -> SagaRow | None:
        """Return a saga, locked; or None."""
        for row in await driver.fetch(connection, self._find, name, saga_id):
            return SagaRow(*row)
        return None

    async def write(
        self,
        connection: AsyncConnection,
        row: SagaRow,
        entry: SagaEntry,
        *,
        is_new: bool,
        keep: timedelta | None,
        now: datetime,  # noqa: ARG002 - the server's clock says until when it is kept
    ) -> bool:
        """Insert or update a saga, and add an entry."""
        values = (*_values(row), keep, *_values(entry))
        return bool(await driver.fetch(connection, self._write[is_new], *values))

    async def note(self, connection: AsyncConnection, entry: SagaEntry) -> None:
        """Add an entry."""
        await driver.fetch(connection, self._note, *_values(entry))


def _of_sqlite(statement: str) -> str:
    """Return the statement with SQLite's numbered parameters."""
    return re.sub(r"\$(\d+)", r":p\1", statement.format(kept="$11"))


class SqliteSagas:
    """Runs them in SQLite's thread; no other transaction writes meanwhile."""

    _find = _of_sqlite(_FIND)
    _write = _of_sqlite(_UPDATE), _of_sqlite(_INSERT)
    _note = f"{_NOTE} VALUES ({', '.join('?' * len(_ENTRY_TYPES))})"

    async def find(self, connection: AsyncConnection, name: str, saga_id: str) -> SagaRow | None:
        """Return a saga, or None."""

        def find(database: sqlite3.Connection) -> Any:
            return database.execute(self._find, _named((name, saga_id))).fetchone()

        found = await _in_thread(connection, self._find, find)
        return None if found is None else SagaRow(*found[:7], *map(_moment, found[7:]))

    async def write(
        self,
        connection: AsyncConnection,
        row: SagaRow,
        entry: SagaEntry,
        *,
        is_new: bool,
        keep: timedelta | None,
        now: datetime,
    ) -> bool:
        """Insert or update a saga, and add an entry."""
        statement = self._write[is_new]
        until = None if keep is None else now + keep
        values, noted = _named(_texts((*_values(row), until))), _texts(_values(entry))

        def write(database: sqlite3.Connection) -> bool:
            is_written = database.execute(statement, values).rowcount == 1
            if is_written:
                database.execute(self._note, noted).close()
            return is_written

        return await _in_thread(connection, statement, write)

    async def note(self, connection: AsyncConnection, entry: SagaEntry) -> None:
        """Add an entry."""
        noted = _texts(_values(entry))
        await _in_thread(
            connection, self._note, lambda database: database.execute(self._note, noted).close()
        )


async def _in_thread(
    connection: AsyncConnection, statement: str, run: Callable[[sqlite3.Connection], T]
) -> T:
    """Run statements in one go, with the errors that SQLAlchemy gives."""
    on_loop: Any = (await connection.get_raw_connection()).driver_connection
    assert isinstance(on_loop, SqliteConnection)
    try:
        return await on_loop.run_short(run)
    except sqlite3.Error as error:
        told = DBAPIError.instance(statement, None, error, sqlite3.Error, hide_parameters=True)
        watch_of(connection).saw(told)
        raise told from error


def _values(record: SagaRow | SagaEntry) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__slots__)


def _named(values: Sequence[Any]) -> dict[str, Any]:
    return {f"p{number}": value for number, value in enumerate(values, 1)}


def _texts(values: Sequence[Any]) -> tuple[Any, ...]:
    """Write moments as SQLAlchemy's DateTime has them in SQLite: in UTC, without a zone."""
    return tuple(
        f"{each.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}" if isinstance(each, datetime) else each
        for each in values
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)
