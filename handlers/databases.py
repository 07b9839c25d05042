"""Where the services keep what they know: a database each, and how its tables are made."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.database import database_url
from mqkit import Service
from mqkit.store import Store


def configured(service: str) -> Callable[[], str]:
    """Make a function that returns a service's database: a URL, read when the store is opened.

    `RISK_DATABASE` says the URL of `risk`, or names a file of SQLite: without it `risk.sqlite`.
    """

    def url() -> str:
        return database_url(os.environ.get(f"{service.upper()}_DATABASE", f"{service}.sqlite"))

    return url


def keep_tables(service: Service, store: Store, metadata: MetaData) -> None:
    """Have the service create its tables beside the store's own, before its first message."""

    async def created_tables() -> MetaData:
        async with store.transaction() as transaction:
            await create_tables(transaction.connection, metadata, name=service.name)
        return metadata

    service.provide(MetaData, created_tables, scope="service")


async def create_tables(connection: AsyncConnection, metadata: MetaData, *, name: str) -> None:
    """Create the tables that are missing, in a transaction that the caller commits.

    On SQLite it holds the write lock already. On PostgreSQL it takes a lock of the service's name:
    of two processes that find no table, the second would fail to create it.
    """
    if connection.dialect.name == "postgresql":
        lock = zlib.crc32(name.encode())
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({lock})"))
    await connection.run_sync(metadata.create_all)
