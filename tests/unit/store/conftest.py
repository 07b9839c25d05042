"""Databases of the store's tests, beside `database` and `postgres`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer, find_postgres, start


@pytest.fixture
def postgres_database(postgres: PostgresServer, name: str) -> Iterator[str]:
    """An empty database of this test alone, where only PostgreSQL does what is claimed."""
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """A file of this test alone, where only SQLite does what is claimed."""
    return f"sqlite:///{tmp_path / 'test.sqlite'}"


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may stop and kill; what is committed survives that without fsync."""
    spec = find_postgres({k: v for k, v in os.environ.items() if k != "MQKIT_TEST_POSTGRES"})
    with start(spec, fsync=False) as server:
        yield server
