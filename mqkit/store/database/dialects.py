"""What SQLite and PostgreSQL do differently: inserting once, and who may do what at a time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, Executable, Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

SCHEMA_LOCK, KEY_LOCK, SHARD_LOCK = 0x6D716B, 0x6D716C, 0x6D716D
"""First halves of the numbers of PostgreSQL's advisory locks: 'mqk' and what follows it."""

NOTIFY_CHANNEL = "mqkit_outbox"

PRIVATE = 0o600
"""Rights of a file that holds messages: its owner's only."""


class Dialect(Protocol):
    """A kind of database."""

    shards: int
    """Parts of the outbox, each published by one relay at a time."""
    holds_shards_by_transaction: bool
    """Whether a relay keeps others out by its open transaction, or by a lock beside it."""

    has_notify: bool
    """Whether processes can tell each other of commits."""
    has_listen: bool
    """Whether this one can be told of them."""

    def __hash__(self) -> int: ...

    @property
    def insert(self) -> Callable[[Table], Any]:
        """Makes an INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
        ...

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Let one process at a time make the tables."""
        ...

    async def insert_locked(
        self,
        connection: AsyncConnection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],
    ) -> None:
        """Insert rows in their order, while no other transaction may insert any of these keys.

        It lasts until the commit: numbers given under this lock are in the order of the commits.
        """
        ...

    def kept(self, table: Table, keep: timedelta, now: datetime) -> Mapping[str, Any]:
        """Parameters of a row that is kept for so long from now on; with `kept_columns`."""
        ...

    def kept_columns(self, table: Table) -> Mapping[str, ColumnElement[Any]]:
        """Columns that are reckoned in the database, by its clock: all hosts have that one.

        Where there is but one host, its own clock's `now` is in the parameters.
        """
        ...

    def delete_old(self, table: Table, limit: int, now: datetime) -> Executable:
        """Delete up to `limit` rows that need not be kept until now."""
        ...

    def of_inbox(self, message_id: str, consumer: tuple[str, str] | None) -> ColumnElement[bool]:
        """Whether a row of the inbox is this message's, and of this handler and queue."""
        ...

    async def begun(self, connection: AsyncConnection, lock_timeout: float) -> None:
        """Set up a transaction that has begun, where its session may not be."""
        ...

    async def committing(self, connection: AsyncConnection, *, unpinned: bool) -> None:
        """See that a transaction will be on the disk once it is committed.

        :param unpinned: whether one of its statements may have changed that
        """
        ...

    async def ping(self, connection: AsyncConnection) -> None:
        """Ask for an answer.

        :raises StoreUnavailableError: it answers, and lets nobody write
        """
        ...

    async def closes_after(self, connection: AsyncConnection) -> float | None:
        """Seconds after which a connection that idles in a transaction is closed; None is never."""
        ...

    def make_private(self) -> None:
        """Make what the database is kept in, for this user only, where it is a file."""
        ...

    async def lock_shards(
        self, connection: AsyncConnection, shards: Sequence[int]
    ) -> Sequence[int]:
        """Which of these shards this transaction may publish; nobody else may until it ends."""
        ...

    def filled_shards(self, table: Table) -> Select[Any]:
        """Which shards have rows in this table."""
        ...

    def of_shards(
        self, table: Table, shards: Sequence[int], condition: ColumnElement[bool], limit: int
    ) -> Select[Any]:
        """Up to `limit` rows of these shards that satisfy a condition: the first of each shard."""
        ...

    def is_one_of(self, column: Column[Any], values: Sequence[int]) -> ColumnElement[bool]:
        """Whether the column has one of these values."""
        ...

    async def check_alive(self, connection: AsyncConnection) -> None:
        """See, after a failed statement, that the transaction can still be committed.

        :raises sqlalchemy.exc.DBAPIError: it is aborted
        :raises StoreError: it is gone
        """
        ...

    async def throw_away(self, connection: AsyncConnection) -> None:
        """End a connection that may still be in a transaction, which goes with it."""
        ...

    def exists(self) -> bool:
        """Whether the database may be there; asking must not make it."""
        ...

    def connect_errors(self) -> tuple[type[Exception], ...]:
        """What else than SQLAlchemy's errors its driver raises when it cannot connect."""
        ...

    @contextlib.asynccontextmanager
    def relaying(self) -> AsyncIterator[bool]:
        """Whether this process may relay at all, for as long as the block lasts."""
        ...


def key_hash(key: str) -> int:
    """32 bits of a key, signed, the same in every process."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), signed=True)
