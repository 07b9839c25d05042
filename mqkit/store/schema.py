"""Defines the store's tables, whose metadata may be merged into an application's migrations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    func,
    literal_column,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

MAX_ID = 255
"""Characters of a message id, a handler's or a queue's name: AMQP short strings hold 255 bytes."""


class UtcTime(TypeDecorator[datetime]):
    """Stores a moment in UTC; SQLite keeps no time zone, so it is put back when it is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert for the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert what the database returned."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


metadata = MetaData()
"""All of the store's tables."""

KEPT_FOR_DAYS = {"autovacuum_vacuum_scale_factor": "0.02"}
"""How PostgreSQL cleans up after the purge: about once a day.

By its default it waits for a fifth of the table to be dead, which is a week of the default window:
the table and its indexes grow by that much. Each time it reads the indexes as a whole, so that more
often would cost more than it frees.
"""

inbox = Table(
    "mqkit_inbox",
    metadata,
    # What has a fixed width first: PostgreSQL pads what follows a text of any length.
    Column("handled_at", UtcTime, nullable=False),
    # Written by who handled it, and not reckoned by who purges: their windows may differ. On
    # PostgreSQL whole minutes: equal keys stand in its index once, which is a third of the size.
    Column("keep_until", UtcTime, nullable=False, index=True),
    # None in rows that were written before there was one.
    Column("body_hash", BigInteger),
    Column("attempt", Integer, nullable=False),
    Column("message_id", String(MAX_ID), nullable=False),
    Column("handler", String(MAX_ID), nullable=False),
    # Part of the key: two services of one code base have handlers of one name.
    Column("queue", String(MAX_ID), nullable=False),
    Column("result", Text),
    postgresql_with=KEPT_FOR_DAYS,
    comment="one row for each message that a handler has had its effect for",
)


def id_hash(message_id: ColumnElement[str]) -> ColumnElement[int]:
    """Hash a message id for the first part of the inbox's key on PostgreSQL."""
    return func.hashtextextended(message_id, literal_column("0"), type_=BigInteger)


def consumer_hash(handler: ColumnElement[str], queue: ColumnElement[str]) -> ColumnElement[int]:
    """Hash handler and queue for the second part of the inbox's key on PostgreSQL."""
    names = handler + literal_column("' '", String) + queue
    return func.hashtextextended(names, literal_column("0"), type_=BigInteger)


INBOX_KEY = "mqkit_inbox_key"
"""The unique index of the inbox. The id comes first: `status` looks by it."""

Index(INBOX_KEY, inbox.c.message_id, inbox.c.handler, inbox.c.queue, unique=True).ddl_if(
    dialect="sqlite"
)

# An index of the texts takes as much as the table, one of their hashes a third of it. Whether the
# texts themselves are equal is seen in the row.
INBOX_KEY_OF_POSTGRES = Index(
    INBOX_KEY,
    id_hash(inbox.c.message_id),
    consumer_hash(inbox.c.handler, inbox.c.queue),
    unique=True,
)
INBOX_KEY_OF_POSTGRES.ddl_if(dialect="postgresql")

outbox = Table(
    "mqkit_outbox",
    metadata,
    # SQLite counts only an INTEGER up by itself, and without AUTOINCREMENT gives numbers again.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("shard", SmallInteger, nullable=False),
    Column("order_key", Text),
    # Without an index: it would take as long as all else of the row and, with random ids, a page of
    # the log besides. Only `status` looks for an id here, in a table that is empty mostly.
    Column("message_id", String(MAX_ID), nullable=False),
    Column("exchange", String(MAX_ID), nullable=False),
    Column("routing_key", String(MAX_ID), nullable=False),
    Column("mandatory", Boolean, nullable=False),
    Column("properties", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("written_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("retry_at", UtcTime),
    Column("error", Text),
    sqlite_autoincrement=True,
    # Rows come and go: what is dead is cleaned up after some thousands, not after a part of the
    # table, and its pages are used again.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0.0",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_cost_delay": "0",
    },
    comment="messages that were committed and are not confirmed yet",
)
Index("mqkit_outbox_order", outbox.c.shard, outbox.c.id)
Index(
    "mqkit_outbox_held",
    outbox.c.order_key,
    postgresql_where=outbox.c.retry_at.is_not(None),
    sqlite_where=outbox.c.retry_at.is_not(None),
)

FORMER_OUTBOX_INDEX = "ix_mqkit_outbox_message_id"
"""What tables of an earlier version have, and no statement but that of `status` goes by."""

states = Table(
    "mqkit_state",
    metadata,
    # The id first: `status` looks by it, and needs no index of its own.
    Column("message_id", String(MAX_ID), primary_key=True),
    Column("handler", String(MAX_ID), primary_key=True),
    Column("queue", String(MAX_ID), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("keep_until", UtcTime, nullable=False, index=True),
    Column("retry_at", UtcTime),
    Column("error_type", Text),
    Column("error", Text),
    Column("result", Text),
    postgresql_with=KEPT_FOR_DAYS,
    comment="what is known of messages on their way; for people, and nothing depends on it",
)

sagas = Table(
    "mqkit_saga",
    metadata,
    Column("name", String(MAX_ID), primary_key=True),
    Column("id", String(MAX_ID), primary_key=True),
    # Each change is one to the version that was read: two cannot both be made.
    Column("version", Integer, nullable=False),
    Column("state_version", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("completed_at", UtcTime),
    # None until it is completed: what goes on is never forgotten.
    Column("keep_until", UtcTime, index=True),
    # Its row is written with each of its messages, mostly within its page.
    postgresql_with={**KEPT_FOR_DAYS, "fillfactor": "70"},
    comment="processes over several messages, each with its state",
)

# Its rows go with their saga's, and have no time of their own.
saga_history = Table(
    "mqkit_saga_history",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("name", String(MAX_ID), nullable=False),
    Column("id", String(MAX_ID), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("handler", String(MAX_ID), nullable=False),
    Column("message_id", String(MAX_ID), nullable=False),
    Column("message_type", String(MAX_ID), nullable=False),
    Column("result", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("changes", Text, nullable=False),
    Column("published", Text, nullable=False),
    sqlite_autoincrement=True,
    postgresql_with=KEPT_FOR_DAYS,
    comment="the messages that came for a saga, and what each brought about; for people",
)
Index("mqkit_saga_history_of", saga_history.c.name, saga_history.c.id, saga_history.c.number)
