"""PostgreSQL servers that the tests start themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from mqkit.testing.brokers import processes
from tests.postgres import (
    PostgresControlError,
    PostgresNotFoundError,
    PostgresServer,
    PostgresSpec,
    find_postgres,
    start,
)
from tests.postgres.node import NodePostgres

HOLDER = """
import os, sys, time
from tests.postgres import find_postgres, start
with start(find_postgres(os.environ)) as server:
    if sys.argv[1] == "paused":
        server.pause()
    print(server.home, flush=True)
    time.sleep(100)
"""


def _found() -> list[PostgresSpec]:
    """One that the tests may hurt: another than MQKIT_TEST_POSTGRES names."""
    try:
        return [find_postgres({**os.environ, "MQKIT_TEST_POSTGRES": ""})]
    except PostgresNotFoundError:
        return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, kinds in (("module_own", {"node", "container"}), ("node_spec", {"node"})):
        if fixture in metafunc.fixturenames:
            specs = [spec for spec in _found() if spec.kind in kinds]
            metafunc.parametrize(
                fixture,
                specs,
                ids=[spec.kind for spec in specs],
                indirect=fixture == "module_own",
                scope="module",
            )


@pytest.fixture(scope="module")
def module_own(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with start(request.param) as server:
        yield server


@pytest.fixture
def own(module_own: PostgresServer) -> PostgresServer:
    """A server to be hurt, which runs whatever the test before did to it."""
    module_own.resume()
    module_own.start()
    return module_own


def plain(url: str) -> str:
    """The URL as asyncpg takes it."""
    return url.replace("postgresql+asyncpg://", "postgresql://")


async def run(url: str, *statements: str) -> object:
    """Run statements, each committed; the first value of the last."""
    connection = await asyncpg.connect(plain(url), timeout=20)
    try:
        value = None
        for statement in statements:
            value = await connection.fetchval(statement)
        return value
    finally:
        await connection.close()


async def test_a_database_is_empty_and_ones_own(database: str) -> None:
    """A table can be made and read through SQLAlchemy, and it is not there from another test."""
    engine = create_async_engine(database)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY)"))
        await connection.execute(text("INSERT INTO things VALUES (7)"))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT id FROM things"))).scalar() == 7
    await engine.dispose()


async def test_two_databases_share_nothing(postgres: PostgresServer, name: str) -> None:
    """A table of one is not in the other; a dropped one is gone, with those connected to it."""
    one, other = postgres.create_database(f"{name}-1"), postgres.create_database(f'{name}"2')
    await run(one, "CREATE TABLE only_here (id INTEGER)")
    with pytest.raises(asyncpg.UndefinedTableError):
        await run(other, "SELECT count(*) FROM only_here")
    connection = await asyncpg.connect(plain(one))
    postgres.drop_database(f"{name}-1")
    postgres.drop_database(f'{name}"2')
    with pytest.raises(asyncpg.PostgresError):
        await connection.fetchval("SELECT 1")
    await connection.close()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await run(one, "SELECT 1")


def test_a_database_of_the_same_name_is_refused(postgres: PostgresServer, name: str) -> None:
    """The error has the server's own words."""
    postgres.create_database(name)
    with pytest.raises(PostgresControlError, match=f'"{name}" already exists'):
        postgres.create_database(name)
    postgres.drop_database(name)


async def test_a_killed_server_comes_back_with_what_was_committed(
    own: PostgresServer, name: str
) -> None:
    """After kill the port is closed; after start on the same URL committed rows are there."""
    url = own.create_database(name)
    await run(url, "CREATE TABLE things (id INTEGER)")
    for turn in range(3):
        writer = await asyncpg.connect(plain(url))
        await writer.execute("INSERT INTO things VALUES ($1)", turn)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("INSERT INTO things VALUES (-1)")
        own.kill()
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await transaction.commit()
        writer.terminate()
        with pytest.raises(ConnectionRefusedError):
            await run(url, "SELECT 1")
        own.start()
        assert own.url_of(name) == url
        assert await run(url, "SELECT string_agg(id::text, ',') FROM things") == ",".join(
            str(number) for number in range(turn + 1)
        )


async def test_a_stopped_server_comes_back(own: PostgresServer, name: str) -> None:
    """Stop ends connections and closes the port; kill and stop of what is down change nothing."""
    url = own.create_database(name)
    connection = await asyncpg.connect(plain(url))
    own.stop()
    own.stop()
    own.kill()
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()
    with pytest.raises(ConnectionRefusedError):
        await run(url, "SELECT 1")
    with pytest.raises(PostgresControlError):
        own.pause()
    own.start()
    own.start()
    assert await run(url, "SELECT 1") == 1


async def test_a_paused_server_answers_when_it_is_resumed(own: PostgresServer, name: str) -> None:
    """While it is paused, a query on an open connection waits; it is answered after resume."""
    url = own.create_database(name)
    connection = await asyncpg.connect(plain(url))
    own.pause()
    answer = asyncio.create_task(connection.fetchval("SELECT 42"))
    done, _ = await asyncio.wait([answer], timeout=0.5)
    assert not done
    own.resume()
    own.resume()
    assert await asyncio.wait_for(answer, 10) == 42
    await connection.close()


@pytest.mark.parametrize("end", ["kill", "stop", "close"])
def test_a_paused_server_can_be_ended(node_spec: PostgresSpec, end: str) -> None:
    """Kill, stop and close end a paused server; afterwards it starts, or nothing of it is left."""
    with start(node_spec, fsync=False) as server:
        assert isinstance(server, NodePostgres)
        server.pause()
        pids = processes.tree(server._process.pid if server._process else 0)
        assert len(pids) > 1
        getattr(server, end)()
        assert not any(processes.is_alive(pid) for pid in pids)
        if end != "close":
            server.start()
            server.create_database("after")
    assert not server.home.exists()


async def test_two_servers_are_out_of_the_way_of_each_other(node_spec: PostgresSpec) -> None:
    """Two run side by side with data of their own; one is killed and the other does not notice."""
    with (
        ThreadPoolExecutor(2) as pool,
        pool.submit(start, node_spec).result() as one,
        pool.submit(start, node_spec, fsync=False).result() as other,
    ):
        assert isinstance(one, NodePostgres)
        url = one.create_database("only_here")
        other.create_database("only_there")
        one.kill()
        assert await run(other.url, "SHOW fsync") == "off"
        one.start()
        assert await run(url, "SHOW fsync") == "on"
        databases = "SELECT count(*) FROM pg_database WHERE datname = 'only_there'"
        assert await run(url, databases) == 0
        one.kill()
    assert not one.home.exists()


def test_a_server_asks_for_its_password(node_spec: PostgresSpec) -> None:
    """Nobody else on this machine gets in through the port: not without the password of the URL."""
    with start(node_spec, fsync=False) as server:
        assert isinstance(server, NodePostgres)
        wrong = server.url.replace(server._password, "guess")
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(run(wrong, "SELECT 1"))
        assert server._password not in repr(server)
        assert server._password not in server.log.read_text()


@pytest.mark.parametrize(
    ("signum", "state"),
    [(signal.SIGINT, "running"), (signal.SIGKILL, "running"), (signal.SIGKILL, "paused")],
)
def test_a_server_ends_with_its_process(
    node_spec: PostgresSpec, signum: signal.Signals, state: str
) -> None:
    """Whatever ends the process that started a server, the server and its directory go with it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, state],
        env={**os.environ, "MQKIT_TEST_POSTGRES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        home = Path(process.stdout.readline().strip())
        pids = processes.tree(int((home / "server.pid").read_text()))
        assert len(pids) > 1
        process.send_signal(signum)
    deadline = time.monotonic() + 20
    while home.exists() or any(processes.is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
