"""URLs, connections that are always given back, and tables that many make at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sqlite3
import traceback
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, text

from mqkit.errors import ConfigurationError, StoreError
from mqkit.store import Store
from mqkit.store.database.engine import BESIDE
from mqkit.store.database.pool import Database, store_url
from tests.support import eventually
from tests.unit.store.processes import opened_at_once
from tests.unit.store.support import FakeBroker, opened, publish

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "malformed"),
        (f"postgresql://u:{SECRET}@host:port/db", "malformed"),
        (f"{SECRET}", "malformed"),
        (f"mysql://u:{SECRET}@host/db", "not 'mysql'"),
        (f"postgresql+psycopg2://u:{SECRET}@host/db", "not 'postgresql\\+psycopg2'"),
        (f"postgresql://u:{SECRET}@host", "names no database"),
        ("sqlite://", "kept in a file"),
        ("sqlite:///:memory:", "kept in a file"),
        ("sqlite:///file.db?mode=ro", "no parameters"),
        ("sqlite+pysqlite:///x", "not 'sqlite\\+pysqlite'"),
        (f"sqlite://u:{SECRET}@host/x", "has no host"),
        (f"postgresql://u:p@{SECRET}@host/db", "more than one @"),
        (f"postgresql://u:p@{SECRET}/x@host/db", "more than one @"),
        (f"postgresql://u:p@@{SECRET}@host:5432/db", "more than one @"),
        (f"postgres://u:{SECRET}@host", "%40"),
        (f"postgresql://u:{SECRET}@host:99999/db", "port 99999"),
        (f"postgresql://u:{SECRET}@host:0/db", "port 0"),
        (f"postgresql://u:{SECRET}\udcff@host/db", "UTF-8"),
        (f"postgresql://u:{SECRET}@host/db\udcff", "UTF-8"),
        ("sqlite:///a\udcff", "UTF-8"),
        ("sqlite:///a\0b", "NUL"),
    ],
)
def test_a_url_that_cannot_be_a_store_s_says_what_to_write(url: str, problem: str) -> None:
    """And never quotes what may be a password."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Store(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_urls_of_postgresql_are_read(scheme: str) -> None:
    """With the scheme that others use, too."""
    assert store_url(f"{scheme}://u:p@host/db").drivername == "postgresql+asyncpg"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/db",
        f"postgresql://127.0.0.1:1/db?user=user&password={SECRET}",
        f"postgresql://127.0.0.1:1/db?password={SECRET}&sslmode=no-such-mode",
        f"postgresql://user@127.0.0.1:1/db?sslpassword={SECRET}",
        f"postgresql://user@127.0.0.1:1/db?sslmode={SECRET}&sslpassword={SECRET}",
        f"postgresql://user:p%40{SECRET}@127.0.0.1:1/db",
        f"postgresql://user:p/{SECRET}?#@127.0.0.1:1/db",
        f"postgresql://user:{SECRET}@127.0.0.1:1/db?password={SECRET}",
        f"postgresql://user@127.0.0.1:1/db?password=first&password={SECRET}",
    ],
)
async def test_a_password_is_in_no_text(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in an error with its chain, nor in the log, nor where a store is printed."""
    caplog.set_level(logging.DEBUG)
    store = Store(url)
    with pytest.raises(StoreError) as caught:
        await store.open()
    texts = [*traceback.format_exception(caught.value), caplog.text, repr(store), str(store)]
    assert SECRET not in "".join(texts)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("how", ["password", "query"])
async def test_a_password_is_taken_from_either_place(
    postgres_database: str, name: str, how: str
) -> None:
    """Of the URL: before the host, or, as libpq has it, among its parameters."""
    secret = "p@:/?#&% w"
    url = make_url(postgres_database)
    async with Store(postgres_database, relay=False) as store, store.transaction() as transaction:
        await transaction.execute(
            text(f"CREATE ROLE \"{name}\" LOGIN SUPERUSER PASSWORD '{secret}'")
        )
    try:
        if how == "password":
            mine = url.set(username=name, password=secret)
        else:
            mine = URL.create(
                url.drivername,
                host=url.host,
                port=url.port,
                database=url.database,
                query={"user": name, "password": secret},
            )
        async with Store(mine.render_as_string(hide_password=False), relay=False) as store:
            await store.ping()
    finally:
        async with opened(postgres_database) as db, db.transaction() as connection:
            await connection.execute(text(f'REASSIGN OWNED BY "{name}" TO CURRENT_USER'))
            await connection.execute(text(f'DROP ROLE "{name}"'))


async def test_parameters_of_libpq_are_taken(postgres_database: str) -> None:
    """`sslmode` as in other programs' URLs; what is none is refused by the server."""
    async with opened(f"{postgres_database}?sslmode=prefer&application_name=mine") as db:
        await db.ping()
    with pytest.raises(StoreError, match=r"SSL|ssl"):
        await Store(f"{postgres_database}?sslmode=require").open()
    with pytest.raises(StoreError, match="no_such"):
        await Store(f"{postgres_database}?no_such=1").open()


async def test_statements_in_errors_have_no_parameters(database: str) -> None:
    """They may hold what must not be in a log."""
    async with opened(database) as db:

        async def fail() -> None:
            async with db.transaction() as connection:
                await connection.execute(text("SELECT :x FROM nowhere"), {"x": SECRET})

        with pytest.raises(Exception, match="nowhere") as caught:
            await fail()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_a_database_that_is_not_open_says_so(database: str) -> None:
    """Before it is opened, and after it was closed."""
    db = Database(store_url(database))
    with pytest.raises(StoreError, match="not open"):
        await db.ping()
    await db.open(create_tables=True)
    await db.close()
    await db.close()
    with pytest.raises(StoreError, match="not open"):
        await db.ping()


async def test_without_leave_to_make_tables_they_must_be_there(database: str) -> None:
    """The error names them, and nothing is made: no file either."""
    with pytest.raises(StoreError, match=r"no table mqkit_inbox|no such file"):
        await Store(database, create_tables=False).open()
    async with Store(database, relay=False):
        pass
    async with Store(database, relay=False, create_tables=False) as store:
        await store.ping()
        async with store.transaction() as transaction:
            await transaction.execute(text("DROP TABLE mqkit_outbox"))
    with pytest.raises(StoreError, match="no table mqkit_outbox: migrate it"):
        await Store(database, create_tables=False).open()


async def test_a_file_that_cannot_be_opened_is_said_as_such(tmp_path: Path) -> None:
    """Its directory is missing, or it is no database."""
    with pytest.raises(StoreError, match="unable to open"):
        await Store(f"sqlite:///{tmp_path / 'no' / 'x.sqlite'}").open()
    (tmp_path / "text.sqlite").write_text("no database, but a text of some length" * 30)
    with pytest.raises(StoreError, match="not a database"):
        await Store(f"sqlite:///{tmp_path / 'text.sqlite'}").open()


def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """With what is beside it, whatever the umask; the rights of one that is there stay."""
    before = os.umask(0)
    try:

        async def use(file: str) -> list[int]:
            async with Store(f"sqlite:///{tmp_path / file}") as store:
                store.start(FakeBroker().send)
                await publish(store, "m")
                await eventually((tmp_path / f"{file}-relay").exists)
                return sorted(p.stat().st_mode & 0o777 for p in tmp_path.glob(f"{file}*"))

        assert asyncio.run(use("new.sqlite")) == [0o600] * 4
        (tmp_path / "shared.sqlite").touch(0o660)
        assert asyncio.run(use("shared.sqlite")) == [0o600, 0o660, 0o660, 0o660]
    finally:
        os.umask(before)


@pytest.mark.parametrize("chosen", [None, logging.DEBUG])
async def test_parameters_are_in_no_log(
    database: str, chosen: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """At no level of the root logger; where the application chose one for a library, it has it."""
    loggers = [logging.getLogger(name) for name in ("sqlalchemy", "aiosqlite", "asyncpg")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.NOTSET if chosen is None else chosen)
        with caplog.at_level(logging.DEBUG):
            async with Store(database, relay=False) as store, store.transaction() as transaction:
                await transaction.execute(text("SELECT CAST(:x AS VARCHAR)"), {"x": SECRET})
        if chosen is None:
            assert SECRET not in caplog.text
        else:
            assert [logger.level for logger in loggers] == [chosen] * 3
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def test_four_processes_make_the_tables_at_once(database: str) -> None:
    """All of them open the store, none fails."""
    opened_at_once(4, database)


async def test_connections_are_given_back_whenever_a_task_is_cancelled(database: str) -> None:
    """After 500 cancellations at random moments the pool is whole, and nothing is left open."""
    pool = 4
    async with opened(database, pool=pool) as db:
        async with db.transaction() as connection:
            await connection.execute(text("CREATE TABLE work (id INTEGER PRIMARY KEY)"))

        async def use(i: int) -> None:
            async with db.transaction() as connection:
                await connection.execute(text("INSERT INTO work VALUES (:i)"), {"i": i})
                await connection.execute(text("SELECT count(*) FROM work"))
            async with db.reading() as connection:
                await connection.execute(text("SELECT count(*) FROM work"))

        loop = asyncio.get_running_loop()
        began = loop.time()
        await use(-1)
        typical = loop.time() - began
        cancelled = 0
        for i in range(0, 500, 10):
            tasks = [asyncio.create_task(use(i + j)) for j in range(10)]
            for task in tasks:
                loop.call_later(random.uniform(0, min(4 * typical, 0.1)), task.cancel)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(r, asyncio.CancelledError) for r in results)
            assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results), results
        assert cancelled > 50

        # As many at a time as ever, and each in a transaction of its own.
        together = asyncio.Barrier(1 if database.startswith("sqlite") else pool)

        async def meet(i: int) -> None:
            async with db.transaction() as connection:
                await connection.execute(text("INSERT INTO work VALUES (:i)"), {"i": 1000 + i})
                async with asyncio.timeout(20):
                    await together.wait()

        await asyncio.gather(*(meet(i) for i in range(pool)))
        engine = db._engine
        assert engine is not None
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        if not database.startswith("sqlite"):
            async with db.reading() as connection:
                found = await connection.execute(
                    text(
                        "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in%') "
                        "FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid()"
                    )
                )
                connections, in_transaction = found.one()
                assert connections < pool + BESIDE
                assert in_transaction == 0


async def test_tables_of_another_version_are_named(tmp_path: Path) -> None:
    """A store whose table lacks a column is not opened, and the error names the column."""
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    async with Store(url):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "old.sqlite")) as connection:
        connection.execute("ALTER TABLE mqkit_outbox DROP COLUMN error")
    with pytest.raises(StoreError, match=r"has no column mqkit_outbox\.error: migrate it"):
        await Store(url).open()
