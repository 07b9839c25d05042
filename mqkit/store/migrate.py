"""Migrates tables of an earlier version to this one, in place, with what is in them.

Until 0.1 the keys of the inbox and of the states had no queue, and the inbox no hash of the body.
Rows of that time have their queue, and go on to count: no message that was handled is so again.
Processes of that version go on to work on the migrated inbox.

Where the tables are not ours to change (`Store(create_tables=False)`), these are the statements for
PostgreSQL. The first index takes its time on a large table; with CONCURRENTLY, made before the rest
and outside of a transaction, it stops nobody meanwhile:

    ALTER TABLE mqkit_inbox ADD COLUMN body_hash bigint;
    CREATE UNIQUE INDEX CONCURRENTLY mqkit_inbox_key ON mqkit_inbox (
        hashtextextended(message_id, 0), hashtextextended(handler || ' ' || queue, 0));
    ALTER TABLE mqkit_inbox DROP CONSTRAINT mqkit_inbox_pkey;
    ALTER TABLE mqkit_inbox REPLICA IDENTITY FULL;
    ALTER TABLE mqkit_state DROP CONSTRAINT mqkit_state_pkey,
        ADD PRIMARY KEY (message_id, handler, queue);
    ALTER TABLE mqkit_inbox SET (autovacuum_vacuum_scale_factor = 0.02);
    ALTER TABLE mqkit_state SET (autovacuum_vacuum_scale_factor = 0.02);
    DROP INDEX CONCURRENTLY IF EXISTS ix_mqkit_outbox_message_id;

Services with sagas need two tables besides, and others do without them: `Store(create_tables=True)`
makes them, or `mqkit.store.metadata` has them.

In this order: the old key goes when the new one is there. The last three keep the tables small and
fast, and nothing else depends on them; the last one, too, is run outside of a transaction.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, Table, inspect, select, text
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex

from mqkit.store.schema import (
    FORMER_OUTBOX_INDEX,
    INBOX_KEY,
    INBOX_KEY_OF_POSTGRES,
    inbox,
    metadata,
    outbox,
    saga_history,
    sagas,
    states,
)

logger = logging.getLogger(__name__)

REPLICA_IDENTITY = "ALTER TABLE mqkit_inbox REPLICA IDENTITY FULL"
"""Without a primary key, a table that is published to subscribers can delete no row otherwise."""


def create_or_migrate(connection: Connection) -> None:
    """Create the tables that are missing, and change those that another version made.

    The caller holds a lock that keeps all others from it.
    """
    inspector = inspect(connection)
    is_new = not inspector.has_table(inbox.name)
    for table in (inbox, states):
        if inspector.has_table(table.name) and _is_old(inspector, table):
            if connection.dialect.name == "postgresql":
                _migrate_postgres(connection, inspector, table)
            else:
                _make_anew(connection, inspector, table)
    metadata.create_all(connection)
    if connection.dialect.name == "postgresql":
        if is_new:
            connection.execute(text(REPLICA_IDENTITY))
        _tidy(connection)
    else:
        connection.execute(text(f"DROP INDEX IF EXISTS {FORMER_OUTBOX_INDEX}"))


def missing(connection: Connection) -> tuple[list[str], list[str]]:
    """List what the database lacks of this version: tables, columns and keys.

    What it lacks of the tables of sagas stands by itself: who has no sagas does without them.
    """
    inspector = inspect(connection)
    lacks: list[str] = []
    of_sagas: list[str] = []
    for name, table in sorted(metadata.tables.items()):
        if not inspector.has_table(name):
            (of_sagas if table in (sagas, saga_history) else lacks).append(f"table {name}")
            continue
        there = {column["name"] for column in inspector.get_columns(name)}
        columns = [f"column {name}.{c.name}" for c in table.columns if c.name not in there]
        lacks += columns
        if not columns and table in (inbox, states) and _is_old(inspector, table):
            lacks.append(f"key of {name} with the queue in it")
    return lacks, of_sagas


def _is_old(inspector: Inspector, table: Table) -> bool:
    key = inspector.get_pk_constraint(table.name)["constrained_columns"]
    if table is states:
        return "queue" not in key
    there = {column["name"] for column in inspector.get_columns(table.name)}
    indexes = {index["name"] for index in inspector.get_indexes(table.name)}
    return bool(key) or "body_hash" not in there or INBOX_KEY not in indexes


def _migrate_postgres(connection: Connection, inspector: Inspector, table: Table) -> None:
    name = connection.dialect.identifier_preparer.quote
    key = inspector.get_pk_constraint(table.name)["name"]
    # At once, and not step by step: whoever has a weaker lock might wait for this one's next.
    connection.execute(text(f"LOCK TABLE {table.name} IN ACCESS EXCLUSIVE MODE"))
    if table is inbox:
        connection.execute(
            text("ALTER TABLE mqkit_inbox ADD COLUMN IF NOT EXISTS body_hash bigint")
        )
        connection.execute(CreateIndex(INBOX_KEY_OF_POSTGRES, if_not_exists=True))
        connection.execute(text(REPLICA_IDENTITY))
    if key is not None:
        connection.execute(text(f"ALTER TABLE {table.name} DROP CONSTRAINT {name(key)}"))
    if table is states:
        connection.execute(
            text("ALTER TABLE mqkit_state ADD PRIMARY KEY (message_id, handler, queue)")
        )


def _tidy(connection: Connection) -> None:
    """Give tables that were made before what this version gives new ones, and nothing depends on.

    A storage parameter that a table has stays, whatever it is: somebody chose it.
    """
    query = text(
        "SELECT reloptions, to_regclass(:index) IS NOT NULL AS is_indexed FROM pg_class "
        # Whoever uses the tables need not be who may change them.
        "WHERE oid = to_regclass(:name) AND pg_has_role(relowner, 'USAGE')"
    )
    for table in metadata.sorted_tables:
        given = {"name": table.name, "index": FORMER_OUTBOX_INDEX}
        found = connection.execute(query, given).one_or_none()
        if found is None:
            continue
        wanted = table.dialect_options["postgresql"]["with"] or {}
        there = {option.partition("=")[0] for option in found.reloptions or ()}
        lacks = ", ".join(f"{key} = {value}" for key, value in wanted.items() if key not in there)
        if lacks:
            statement = f"ALTER TABLE {table.name} SET ({lacks})"
            _change_if_free(connection, table, "SHARE UPDATE EXCLUSIVE", statement)
        if table is outbox and found.is_indexed:
            statement = f"DROP INDEX {FORMER_OUTBOX_INDEX}"
            _change_if_free(connection, table, "ACCESS EXCLUSIVE", statement)


def _change_if_free(connection: Connection, table: Table, mode: str, statement: str) -> None:
    """Change a table, or leave it for another time where that would have to wait.

    A VACUUM of a large table goes on for long, and nobody's start needs to wait for it.
    """
    try:
        with connection.begin_nested():
            connection.execute(text(f"LOCK TABLE {table.name} IN {mode} MODE NOWAIT"))
            connection.execute(text(statement))
    except DBAPIError as error:
        logger.info("left until the store is opened next: %s: %s", statement, error.orig)


def _make_anew(connection: Connection, inspector: Inspector, table: Table) -> None:
    """Replace a table by one that takes its rows: SQLite changes no key of a table."""
    old = f"{table.name}_old"
    there = {column["name"] for column in inspector.get_columns(table.name)}
    indexes = inspector.get_indexes(table.name)
    connection.execute(text(f"ALTER TABLE {table.name} RENAME TO {old}"))
    for index in indexes:
        connection.execute(text(f'DROP INDEX "{index["name"]}"'))
    metadata.create_all(connection, tables=[table])
    names = [column.name for column in table.columns if column.name in there]
    rows = select(*(text(column) for column in names)).select_from(text(old))
    connection.execute(table.insert().from_select(names, rows, include_defaults=False))
    connection.execute(text(f"DROP TABLE {old}"))
