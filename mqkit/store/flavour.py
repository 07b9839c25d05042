"""What SQLite and PostgreSQL do differently: inserting once, and who may do what at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger(__name__)

SCHEMA_LOCK, KEY_LOCK, SHARD_LOCK = 0x6D716B, 0x6D716C, 0x6D716D
"""First halves of the numbers of PostgreSQL's advisory locks: 'mqk' and what follows it."""

NOTIFY_CHANNEL = "mqkit_outbox"


class Flavour(Protocol):
    """A kind of database."""

    shards: int
    """Parts of the outbox, each published by one relay at a time."""
    holds_shards_by_transaction: bool
    """Whether a relay keeps others out by its open transaction, or by a lock beside it."""

    has_notify: bool
    """Whether processes can tell each other of commits."""

    def insert(self, table: Table) -> Any:
        """An INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
        ...

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Let one process at a time make the tables."""
        ...

    async def lock_keys(self, connection: AsyncConnection, keys: Iterable[str]) -> None:
        """Let one transaction at a time write messages of a key, until it is committed.

        Numbers given under this lock are in the order of the commits.
        """
        ...

    async def lock_shards(
        self, connection: AsyncConnection, shards: Sequence[int]
    ) -> Sequence[int]:
        """Which of these shards this transaction may publish; nobody else may until it ends."""
        ...

    @contextlib.asynccontextmanager
    def relaying(self) -> AsyncIterator[bool]:
        """Whether this process may relay at all, for as long as the block lasts."""
        ...


def key_hash(key: str) -> int:
    """32 bits of a key, signed, the same in every process."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), signed=True)


class Postgres:
    """Rows and advisory locks: many writers and many relays at a time."""

    shards = 64
    holds_shards_by_transaction = True
    has_notify = True

    def insert(self, table: Table) -> Any:
        return postgresql.insert(table)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": SCHEMA_LOCK}
        )

    async def lock_keys(self, connection: AsyncConnection, keys: Iterable[str]) -> None:
        # Sorted: two transactions that take the same locks take them in the same order.
        hashes = sorted({key_hash(key) for key in keys})
        if hashes:
            await connection.execute(
                text(
                    "SELECT pg_advisory_xact_lock(:space, hash) "
                    "FROM unnest(CAST(:hashes AS integer[])) AS hash"
                ),
                {"space": KEY_LOCK, "hashes": hashes},
            )

    async def lock_shards(
        self, connection: AsyncConnection, shards: Sequence[int]
    ) -> Sequence[int]:
        found = await connection.execute(
            text(
                "SELECT shard FROM unnest(CAST(:shards AS integer[])) AS shard "
                "WHERE pg_try_advisory_xact_lock(:space, shard)"
            ),
            {"space": SHARD_LOCK, "shards": list(shards)},
        )
        return list(found.scalars())

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        yield True


class Sqlite:
    """One writer at a time, and one relay: it holds a lock on a file beside the database."""

    shards = 1
    holds_shards_by_transaction = False
    has_notify = False

    def __init__(self, path: str | None) -> None:
        self._path = Path(f"{path}-relay") if path and path != ":memory:" else None

    def insert(self, table: Table) -> Any:
        return sqlite.insert(table)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """The transaction holds the write lock already."""

    async def lock_keys(self, connection: AsyncConnection, keys: Iterable[str]) -> None:
        """The transaction holds the write lock already."""

    async def lock_shards(
        self,
        connection: AsyncConnection,  # noqa: ARG002
        shards: Sequence[int],
    ) -> Sequence[int]:
        return shards

    @contextlib.asynccontextmanager
    async def relaying(self) -> AsyncIterator[bool]:
        if self._path is None:
            yield True
            return
        # The system lets go of it when the process dies, however it does; a row in the database
        # would need a clock to tell a dead owner from a slow one.
        with self._path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
