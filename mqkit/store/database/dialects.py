"""Declares what differs between SQLite and PostgreSQL: inserting once, locks, and who may relay."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Executable, Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.store.database.statements.sagas import SagaStatements

SCHEMA_LOCK, KEY_LOCK, SHARD_LOCK = 0x6D716B, 0x6D716C, 0x6D716D
"""First halves of the numbers of PostgreSQL's advisory locks: 'mqk' and what follows it."""

NOTIFY_CHANNEL = "mqkit_outbox"

PRIVATE = 0o600
"""Rights of a file that holds messages: its owner's only."""


class Dialect(Protocol):
    """Does what SQLite and PostgreSQL do differently."""

    shards: int
    """Parts of the outbox, each published by one relay at a time."""
    holds_shards_by_transaction: bool
    """Whether a relay keeps others out by its open transaction, or by a lock beside it."""

    has_notify: bool
    """Whether processes can tell each other of commits."""
    has_listen: bool
    """Whether this one can be told of them."""

    sagas: SagaStatements
    """What reads and writes the rows of sagas."""

    def __hash__(self) -> int: ...

    @property
    def insert(self) -> Callable[[Table], Any]:
        """Make an INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
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
        """Return the parameters of a row that is kept for so long from now; with `kept_columns`."""
        ...

    def kept_columns(self, table: Table) -> Mapping[str, ColumnElement[Any]]:
        """Return columns that the database computes by its clock, which all hosts share.

        Where there is but one host, its own clock's `now` is in the parameters.
        """
        ...

    purge_batch: int
    """Rows of a table that one transaction of the purge deletes."""

    def delete_old(self, table: Table, now: datetime) -> Executable:
        """Delete up to `purge_batch` rows whose time to be kept is over."""
        ...

    def of_inbox(self, message_id: str, consumer: tuple[str, str] | None) -> ColumnElement[bool]:
        """Match the inbox row of this message, handler and queue."""
        ...

    def of_states(self) -> ColumnElement[bool]:
        """Match the inbox row of the message, handler and queue of a row of the states."""
        ...

    async def find_inbox(
        self, connection: AsyncConnection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> Sequence[tuple[str, str | None, int | None]]:
        """Return the ids, results and body hashes of inbox rows of one handler and queue.

        A row of another id, of the same hash, may be among them.
        """
        ...

    async def delete_inbox(
        self, connection: AsyncConnection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> None:
        """Delete inbox rows of one handler and queue that this transaction has inserted."""
        ...

    async def insert_inbox(
        self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        """Insert rows of one handler and queue, in their order; return the ids that were not there.

        What another transaction has inserted and not committed is waited for. `kept` is in each.
        """
        ...

    async def set_results(
        self, connection: AsyncConnection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        """Write the results of messages, by their ids, into the inbox rows of one handler."""
        ...

    async def begun(self, connection: AsyncConnection, lock_timeout: float) -> None:
        """Set up the session of a new transaction, where each may be on another session."""
        ...

    async def restore(self, connection: AsyncConnection) -> None:
        """Have mqkit's own statements find its tables again, where a handler changed that."""
        ...

    async def committing(self, connection: AsyncConnection, *, unpinned: bool) -> None:
        """Make sure that a commit waits for the disk.

        :param unpinned: whether one of its statements may have changed that
        """
        ...

    async def ping(self, connection: AsyncConnection) -> None:
        """Ask the database for an answer.

        :raises StoreUnavailableError: it answers, and lets nobody write
        """
        ...

    async def closes_after(self, connection: AsyncConnection) -> float | None:
        """Return the seconds after which the server closes a slow transaction; None is never."""
        ...

    def make_private(self) -> None:
        """Create the database's file for this user only, where it is a file."""
        ...

    async def lock_shards(
        self, connection: AsyncConnection, shards: Sequence[int]
    ) -> Sequence[int]:
        """Lock those of these shards that no other relay holds, until the transaction ends."""
        ...

    def filled_shards(self, table: Table) -> Select[Any]:
        """Return the shards that have rows in this table."""
        ...

    def of_shards(self, table: Table, condition: ColumnElement[bool]) -> Select[Any]:
        """Select by a condition the first rows of some shards, in the order of each.

        Its parameters are the `shards`, and the `limit` of the rows of each.
        """
        ...

    async def take_out(self, connection: AsyncConnection, ids: Sequence[int]) -> None:
        """Delete rows of the outbox, by their numbers."""
        ...

    async def set_savepoint(self, connection: AsyncConnection) -> None:
        """Make a savepoint to which `roll_back` goes back, within those that were made before."""
        ...

    async def roll_back(self, connection: AsyncConnection) -> None:
        """Undo what was done since the latest savepoint."""
        ...

    async def check_alive(self, connection: AsyncConnection) -> None:
        """Check, after a failed statement, that the transaction can still be committed.

        :raises sqlalchemy.exc.DBAPIError: it is aborted
        :raises StoreError: it is gone
        """
        ...

    async def throw_away(self, connection: AsyncConnection) -> None:
        """Close a connection that may still be in a transaction, which is rolled back by that."""
        ...

    def exists(self) -> bool:
        """Tell whether the database may exist, without creating it."""
        ...

    def connect_errors(self) -> tuple[type[Exception], ...]:
        """Return the errors besides SQLAlchemy's that its driver raises when it cannot connect."""
        ...

    @contextlib.asynccontextmanager
    def relaying(self) -> AsyncIterator[bool]:
        """Hold the right to relay for the block, and tell whether this process has it."""
        ...

    # The same on the connection of a thread.

    def sync_insert_locked(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        keys: Collection[str],
    ) -> None:
        """Insert rows as `insert_locked` does."""
        ...

    def sync_insert_inbox(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]]
    ) -> set[str]:
        """Insert rows as `insert_inbox` does."""
        ...

    def sync_find_inbox(
        self, connection: Connection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> Sequence[tuple[str, str | None, int | None]]:
        """Return what `find_inbox` returns."""
        ...

    def sync_delete_inbox(
        self, connection: Connection, message_ids: Sequence[str], consumer: tuple[str, str]
    ) -> None:
        """Delete rows as `delete_inbox` does."""
        ...

    def sync_set_results(
        self, connection: Connection, results: Mapping[str, str], consumer: tuple[str, str]
    ) -> None:
        """Write results as `set_results` does."""
        ...

    def sync_begun(self, connection: Connection, lock_timeout: float) -> None:
        """Set up the session as `begun` does."""
        ...

    def sync_restore(self, connection: Connection) -> None:
        """Restore the session as `restore` does."""
        ...

    def sync_committing(self, connection: Connection, *, unpinned: bool) -> None:
        """Make sure that a commit waits for the disk, as `committing` does."""
        ...

    def sync_check_alive(self, connection: Connection) -> None:
        """Check a transaction as `check_alive` does."""
        ...

    def sync_throw_away(self, connection: Connection) -> None:
        """Close a connection as `throw_away` does."""
        ...

    def sync_abort(self, driver: Any) -> bool:
        """Roll back the transaction of another thread, which can write nothing more after that.

        :param driver: the driver's connection, which is thrown away then
        :returns: whether its locks are free
        """
        ...


@functools.lru_cache(maxsize=8192)
def key_hash(key: str) -> int:
    """Hash a key to 32 signed bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), signed=True)
