"""Tables of an earlier version: brought up to this one where they stand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import inspect, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mqkit.errors import StoreError
from mqkit.store import State, Store, Transaction
from mqkit.store import migrate as migrations
from mqkit.store.schema import inbox
from tests.unit.store.processes import opened_at_once
from tests.unit.store.support import delivery, is_sqlite, publish

OLD = """
CREATE TABLE mqkit_inbox (
    message_id VARCHAR(255) NOT NULL, handler VARCHAR(255) NOT NULL, queue VARCHAR(255) NOT NULL,
    attempt INTEGER NOT NULL, handled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    keep_until TIMESTAMP WITH TIME ZONE NOT NULL, result TEXT, PRIMARY KEY (message_id, handler)
);
CREATE INDEX ix_mqkit_inbox_keep_until ON mqkit_inbox (keep_until);
CREATE TABLE mqkit_state (
    message_id VARCHAR(255) NOT NULL, handler VARCHAR(255) NOT NULL, queue VARCHAR(255) NOT NULL,
    state VARCHAR(16) NOT NULL, attempt INTEGER NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL, keep_until TIMESTAMP WITH TIME ZONE NOT NULL,
    retry_at TIMESTAMP WITH TIME ZONE, error_type TEXT, error TEXT, result TEXT,
    PRIMARY KEY (message_id, handler)
);
CREATE INDEX ix_mqkit_state_keep_until ON mqkit_state (keep_until);
INSERT INTO mqkit_inbox VALUES
    ('m', 'h', 'q', 3, '2026-01-01 12:00:00.000000', '2099-01-01 12:00:00.000000', '{"n":1}'),
    ('none', 'h', 'q', 1, '2026-01-01 12:00:00.000000', '2099-01-01 12:00:00.000000', NULL);
INSERT INTO mqkit_state VALUES
    ('s', 'h', 'q', 'retrying', 2, '2026-01-01 12:00:00.000000', '2099-01-01 12:00:00.000000',
     NULL, 'E', 'text', NULL)
"""
"""What the version before made, with rows."""

OLD_CLAIM = (
    "INSERT INTO mqkit_inbox (message_id, handler, queue, attempt, handled_at, keep_until) "
    "VALUES (:id, 'h', 'q', 1, '2026-01-01 12:00:00.000000', '2099-01-01 12:00:00.000000') "
    "ON CONFLICT DO NOTHING"
)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncEngine]:
    """The database, without a store."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        yield engine
    finally:
        await engine.dispose()


async def run_all(url: str, statements: str) -> None:
    """Statements, in one transaction."""
    async with connected(url) as engine, engine.begin() as connection:
        for statement in statements.split(";"):
            await connection.exec_driver_sql(statement)


async def never(_: Transaction) -> None:
    """What was handled before must not be run again."""
    raise AssertionError


async def run(_: Transaction) -> str:
    """What was not."""
    return "run"


async def test_what_was_handled_before_the_migration_is_not_handled_again(database: str) -> None:
    """Whatever its body is: the rows of that time have no hash; all that they tell is kept."""
    await run_all(database, OLD)
    for _ in range(2):
        async with Store(database, relay=False) as store:
            assert await store.run_once("h", delivery("m"), never) == {"n": 1}
            assert await store.run_once("h", delivery("none"), never) is None
            (status,) = await store.status("m")
            assert (status.state, status.attempt, status.queue) == (State.SUCCEEDED, 3, "q")
            (status,) = await store.status("s")
            assert (status.state, status.error) == (State.RETRYING, "text")
    async with Store(database, relay=False) as store:
        assert await store.run_once("h", delivery("m", queue="other"), run) == "run"
        store.received("h", delivery("s", queue="other"))
        assert len(await store.status("s")) == 2
        await publish(store, "o")
        assert await store.pending() == 1


async def test_a_process_of_the_earlier_version_goes_on_beside(database: str) -> None:
    """What either of them handled, the other one takes for handled."""
    await run_all(database, OLD)
    async with Store(database, relay=False) as store, connected(database) as engine:
        await store.run_once("h", delivery("new"), run)
        async with engine.begin() as connection:
            taken = [
                (await connection.execute(text(OLD_CLAIM), {"id": id_})).rowcount
                for id_ in ("new", "m", "old")
            ]
        assert taken == [0, 0, 1]
        await store.run_once("h", delivery("old"), never)


async def test_four_processes_migrate_at_once(database: str) -> None:
    """All of them open the store, and none takes what was handled for new."""
    await run_all(database, OLD)
    await asyncio.to_thread(opened_at_once, 4, database, "m")


async def test_without_leave_to_change_tables_old_ones_are_refused(database: str) -> None:
    """The error names what is missing; nothing is changed, and nothing handled."""
    await run_all(database, OLD)
    with pytest.raises(
        StoreError, match=r"no column mqkit_inbox\.body_hash.*mqkit\.store\.migrate"
    ):
        await Store(database, create_tables=False).open()
    await run_all(database, "ALTER TABLE mqkit_inbox ADD COLUMN body_hash BIGINT")
    with pytest.raises(StoreError, match="no key of mqkit_inbox with the queue in it"):
        await Store(database, create_tables=False).open()


async def test_the_statements_for_a_migration_by_hand_do_it(postgres_database: str) -> None:
    """Those of the module's docstring, one after the other."""
    await run_all(postgres_database, OLD)
    async with Store(postgres_database, relay=False):
        pass
    outbox = "CREATE TABLE IF NOT EXISTS mqkit_outbox AS SELECT 1 AS id"
    await run_all(postgres_database, f"DROP TABLE mqkit_inbox; DROP TABLE mqkit_state; {outbox}")
    await run_all(postgres_database, OLD)
    documented = migrations.__doc__ or ""
    statements = "\n".join(ln for ln in documented.splitlines() if ln.startswith("    "))
    async with connected(postgres_database) as engine:
        alone = engine.execution_options(isolation_level="AUTOCOMMIT")
        for statement in filter(str.strip, statements.split(";")):
            async with alone.connect() as connection:
                await connection.exec_driver_sql(statement)
    async with Store(postgres_database, relay=False, create_tables=False) as store:
        assert await store.run_once("h", delivery("m"), never) == {"n": 1}
        assert await key_of(postgres_database) == await fresh_key(postgres_database)


async def key_of(url: str) -> Any:
    """How PostgreSQL writes the key's index."""
    async with connected(url) as engine, engine.connect() as connection:
        found = await connection.execute(
            text("SELECT indexdef FROM pg_indexes WHERE indexname = 'mqkit_inbox_key'")
        )
        return found.scalar_one()


async def fresh_key(url: str) -> Any:
    """The same of tables that are made anew."""
    await run_all(url, "DROP TABLE mqkit_inbox; DROP TABLE mqkit_state")
    async with Store(url, relay=False):
        return await key_of(url)


async def test_rows_of_a_published_table_can_be_deleted(postgres_database: str) -> None:
    """A subscriber needs to know which: the inbox has no primary key that would tell."""
    async with Store(postgres_database, relay=False) as store:
        await store.run_once("h", delivery("m"), run)
        async with store.transaction() as transaction:
            await transaction.execute(text("CREATE PUBLICATION p FOR TABLE mqkit_inbox"))
        async with store.transaction() as transaction:
            await transaction.execute(text("DELETE FROM mqkit_inbox"))


async def test_a_look_into_the_inbox_goes_by_its_key(postgres_database: str) -> None:
    """And not through a table of millions of rows."""
    async with Store(postgres_database, relay=False) as store:
        dialect = store._open().database.dialect
        for consumer in (None, ("h", "q")):
            condition = dialect.of_inbox("m", consumer)
            async with store.transaction() as transaction:
                await transaction.execute(text("SET LOCAL enable_seqscan = off"))
                look = select(inbox.c.result).where(condition)
                compiled = look.compile(
                    dialect=transaction.connection.dialect,
                    compile_kwargs={"literal_binds": True},
                )
                plan = await transaction.connection.exec_driver_sql(f"EXPLAIN {compiled}")
                assert "mqkit_inbox_key" in "".join(plan.scalars())


async def storage_of(url: str) -> dict[str, list[str]]:
    """The storage parameters of the store's tables."""
    async with connected(url) as engine, engine.connect() as connection:
        found = await connection.execute(
            text("SELECT relname, reloptions FROM pg_class WHERE relname LIKE 'mqkit%'")
        )
        return {row.relname: row.reloptions for row in found if row.reloptions}


async def test_old_tables_get_storage_parameters_and_keep_those_they_have(
    postgres_database: str,
) -> None:
    """An old table is cleaned up as often as a new one, unless somebody said otherwise."""
    await run_all(postgres_database, OLD)
    async with Store(postgres_database, relay=False):
        pass
    assert (await storage_of(postgres_database))["mqkit_inbox"] == [
        "autovacuum_vacuum_scale_factor=0.02"
    ]
    chosen = "ALTER TABLE mqkit_inbox SET (autovacuum_vacuum_scale_factor = 0.1)"
    await run_all(
        postgres_database,
        f"{chosen}; ALTER TABLE mqkit_outbox RESET (autovacuum_vacuum_threshold)",
    )
    async with Store(postgres_database, relay=False):
        pass
    storage = await storage_of(postgres_database)
    assert storage["mqkit_inbox"] == ["autovacuum_vacuum_scale_factor=0.1"]
    assert "autovacuum_vacuum_threshold=5000" in storage["mqkit_outbox"]


async def indexes_of_outbox(url: str) -> list[str]:
    """The columns that the outbox has indexes of, without its primary key."""
    async with connected(url) as engine, engine.connect() as connection:
        found = await connection.run_sync(lambda sync: inspect(sync).get_indexes("mqkit_outbox"))
        return sorted("+".join(str(name) for name in each["column_names"]) for each in found)


async def test_the_outbox_of_an_earlier_version_loses_its_index_of_ids(database: str) -> None:
    """At a start while nobody uses the table; else it stays, and all goes on with it."""
    async with Store(database, relay=False):
        pass
    former = "CREATE INDEX ix_mqkit_outbox_message_id ON mqkit_outbox (message_id)"
    await run_all(database, former)
    if not is_sqlite(database):
        async with connected(database) as engine, engine.begin() as connection:
            await connection.exec_driver_sql("SELECT * FROM mqkit_outbox")
            async with asyncio.timeout(5), Store(database, relay=False) as store:
                await publish(store, "m")
        assert "message_id" in await indexes_of_outbox(database)
    async with Store(database, relay=False):
        assert await indexes_of_outbox(database) == ["order_key", "shard+id"]


async def test_storage_parameters_wait_for_no_vacuum(postgres_database: str) -> None:
    """A store opens while one goes on, and sets them when it is opened next."""
    await run_all(postgres_database, OLD)
    reset = "ALTER TABLE mqkit_inbox RESET (autovacuum_vacuum_scale_factor)"
    async with Store(postgres_database, relay=False):
        pass
    await run_all(postgres_database, reset)
    async with connected(postgres_database) as engine, engine.begin() as connection:
        await connection.exec_driver_sql("LOCK TABLE mqkit_inbox IN SHARE UPDATE EXCLUSIVE MODE")
        async with asyncio.timeout(5), Store(postgres_database, relay=False) as store:
            await store.run_once("h", delivery("new"), run)
        assert "mqkit_inbox" not in await storage_of(postgres_database)
    async with Store(postgres_database, relay=False):
        pass
    assert "mqkit_inbox" in await storage_of(postgres_database)


async def test_who_may_only_use_the_tables_opens_the_store(postgres_database: str) -> None:
    """Storage parameters are their owner's, and a service's user may be another one."""
    async with Store(postgres_database, relay=False):
        pass
    user = f"u_{postgres_database.rsplit('/', 1)[1]}"[:60]
    await run_all(
        postgres_database,
        f"CREATE ROLE \"{user}\" LOGIN PASSWORD 'p'; "
        f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{user}"; '
        f'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{user}"; '
        "ALTER TABLE mqkit_inbox RESET (autovacuum_vacuum_scale_factor)",
    )
    url = make_url(postgres_database).set(username=user, password="p")
    try:
        async with Store(url.render_as_string(hide_password=False), relay=False) as store:
            await store.run_once("h", delivery("m"), run)
        assert "mqkit_inbox" not in await storage_of(postgres_database)
    finally:
        await run_all(postgres_database, f'DROP OWNED BY "{user}"; DROP ROLE "{user}"')
