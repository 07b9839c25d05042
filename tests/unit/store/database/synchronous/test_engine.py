"""The connections of `def` handlers' transactions: their URL, their driver, a server that hangs."""

from __future__ import annotations

import asyncio
import builtins
from typing import Any

import pytest
from sqlalchemy import URL, text

from mqkit.errors import ConfigurationError, StoreUnavailableError
from mqkit.store import Store, SyncTransaction
from mqkit.store.database.pool import store_url
from mqkit.store.database.synchronous.engine import make_sync_engine
from tests.postgres import PostgresServer
from tests.unit.store.support import make_work, work_of
from tests.unit.store.synchronous.test_once import insert, once


def connecting(url: URL, **options: Any) -> dict[str, Any]:
    """What psycopg is given to connect with."""
    import psycopg  # noqa: PLC0415

    given: dict[str, Any] = {}

    def connect(*_: Any, **arguments: Any) -> None:
        given.update(arguments)
        raise psycopg.OperationalError

    engine = make_sync_engine(url, 1, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Connection, "connect", connect)
        with pytest.raises(Exception, match=r"OperationalError"):
            engine.connect()
    return given


def test_a_url_s_parameters_are_libpq_s_or_settings() -> None:
    """As they are for the asynchronous driver, and what is in them may have spaces."""
    url = store_url(
        "postgresql://me:p%40ss@db:5433/shop?sslmode=disable&search_path=a, b&connect_timeout=3"
    )
    given = connecting(url)
    assert (given["user"], given["password"], given["host"]) == ("me", "p@ss", "db")
    assert (given["port"], given["dbname"], given["sslmode"]) == (5433, "shop", "disable")
    assert given["connect_timeout"] == "3"
    assert r"-c search_path=a,\ b" in given["options"]
    assert r"-c default_transaction_isolation=read\ committed" in given["options"]


def test_a_pooler_is_asked_for_nothing_that_it_cannot_keep() -> None:
    """Neither settings of a session nor prepared statements."""
    given = connecting(store_url("postgresql://me@db/shop"), pooled=True)
    assert "options" not in given
    assert given["prepare_threshold"] is None


async def test_a_url_s_parameters_hold_for_a_thread_s_session(postgres_database: str) -> None:
    """What a store's URL says is said to both of its drivers."""

    def look(transaction: SyncTransaction) -> Any:
        return transaction.execute(text("SHOW search_path")).scalar()

    url = f"{postgres_database}?search_path=public, other&application_name=shop"
    async with Store(url, relay=False) as store:
        assert await once(store, "m", look) == "public, other"


async def test_a_driver_that_is_not_installed_is_an_error_of_the_start(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to install, before a message has come."""
    imported = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'")
        return imported(name, *args, **kwargs)

    async with Store(postgres_database, relay=False) as store:
        monkeypatch.setattr(builtins, "__import__", refuse)
        with pytest.raises(ConfigurationError, match=r"pip install 'mqkit\[postgres-sync\]'"):
            store.prepare_threads()


async def test_a_server_that_hangs_is_the_database_s_failure(
    own_postgres: PostgresServer, name: str
) -> None:
    """A thread waits for no longer than a statement may take, and its message is tried again."""
    url = own_postgres.create_database(name)
    async with Store(url, relay=False, statement_timeout=1) as store:
        await make_work(store)
        await once(store, "m", insert)
        await asyncio.to_thread(own_postgres.pause)
        try:
            with pytest.raises(StoreUnavailableError):
                await once(store, "n", lambda t: insert(t, "b"))
        finally:
            await asyncio.to_thread(own_postgres.resume)
        assert await once(store, "n", lambda t: insert(t, "b")) == "b"
        assert await work_of(store) == ["a", "b"]


async def test_a_server_that_is_restarted_meanwhile_is_the_database_s_failure(
    own_postgres: PostgresServer, name: str
) -> None:
    """The handler is not to blame, nothing of it is there, and the next run gets a connection."""
    url = own_postgres.create_database(name)
    async with Store(url, relay=False) as store:
        await make_work(store)

        def crash(transaction: SyncTransaction) -> None:
            insert(transaction)
            own_postgres.kill()
            own_postgres.start()
            transaction.execute(text("SELECT 1"))

        with pytest.raises(StoreUnavailableError):
            await once(store, "m", crash)
        assert await work_of(store) == []
        assert await once(store, "m", insert) == "a"


async def test_no_password_is_in_an_error(own_postgres: PostgresServer, name: str) -> None:
    """Not even where the driver could not connect."""
    url = own_postgres.create_database(name)
    async with Store(url, relay=False) as store:
        await asyncio.to_thread(own_postgres.stop)
        try:
            with pytest.raises(StoreUnavailableError) as caught:
                await once(store, "m", insert)
        finally:
            await asyncio.to_thread(own_postgres.start)
    password = store_url(url).password or ""
    chain: BaseException | None = caught.value
    assert password
    while chain is not None:
        assert password not in f"{chain!r}{chain}"
        chain = chain.__cause__
