"""A store behind a real PgBouncer, and how its commits get to the disk with and without one."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, make_url, text

from mqkit.message import Delivery
from mqkit.store import Store, SyncTransaction, Transaction
from mqkit.testing.brokers.probe import free_ports
from tests.support import eventually
from tests.unit.store.support import FakeBroker, delivery, make_work, publish, work_of
from tests.unit.store.synchronous.test_once import once

PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"

UNPRIVILEGED = ("postgres", "nobody")
"""Who runs it where the tests are run by root, which it refuses."""


SEES = """
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen VALUES (current_setting('synchronous_commit'));
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER see AFTER INSERT ON work DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION see()
"""


@contextmanager
def pgbouncer(url: URL, mode: str, directory: Path) -> Iterator[str]:
    """The URL of a PgBouncer of one's own before that database, with two sessions of the server."""
    program = shutil.which("pgbouncer", path=PLACES)
    if program is None:
        pytest.fail("no pgbouncer: run deploy/install-pgbouncer.sh", pytrace=False)
    (port,) = free_ports(1)
    directory.mkdir()
    file, log = directory / "pgbouncer.ini", directory / "log"
    target = f"host={url.host} port={url.port} user={url.username} password='{url.password}'"
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": 2 if mode == "transaction" else 20,
        "unix_socket_dir": "",
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    file.write_text("\n".join(["[databases]", f"* = {target}", "[pgbouncer]", *lines]))
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = next(known[name] for name in UNPRIVILEGED if name in known)
        options = {"user": user.pw_uid, "group": user.pw_gid}
        os.chown(directory, user.pw_uid, user.pw_gid)
    with log.open("wb") as output, file.open() as config:
        # Its directories may be closed to that user: it reads what is open already.
        process = subprocess.Popen(
            [program, "/dev/stdin"], stdin=config, stdout=output, stderr=output, **options
        )
    try:
        deadline = time.monotonic() + 10
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@pytest.fixture
def behind(postgres_database: str, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes a PgBouncer in some mode before the test's database; "none" is the database itself."""
    with ExitStack() as stack:

        def make(mode: str) -> str:
            if mode == "none":
                return postgres_database
            url = make_url(postgres_database)
            return stack.enter_context(pgbouncer(url, mode, tmp_path / mode))

        yield make


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_store_works_behind_pgbouncer(behind: Callable[[str], str], mode: str) -> None:
    """Inbox, outbox, relay and states, over fewer sessions of the server than connections."""
    url, broker = behind(mode), FakeBroker()

    async def run(transaction: Transaction, id_: str) -> dict[str, str]:
        await transaction.execute(text("INSERT INTO work VALUES (:id)"), {"id": id_})
        await transaction.publish("e", "k", b"", key=id_[-1], message_id=f"out-{id_}")
        return {"id": id_}

    async def run_all(_: Transaction, deliveries: Sequence[Delivery]) -> list[str | None]:
        return [each.message_id for each in deliveries]

    ids = [f"m{i:02}" for i in range(40)]
    async with Store(url, sweep=0.05, pool=10) as one, Store(url, relay=False, pool=5) as two:
        await make_work(one)
        one.start(broker.send)
        results = await asyncio.gather(
            *(
                store.run_once("h", delivery(id_), lambda t, id_=id_: run(t, id_))  # type: ignore[misc]
                for id_ in ids
                for store in (one, two)
            )
        )
        assert results == [{"id": id_} for id_ in ids for _ in (one, two)]
        again = await two.run_batch_once("h", [delivery(ids[0]), delivery("new")], run_all)
        assert again == [{"id": ids[0]}, "new"]
        await publish(two, "a", "b", key="k")
        await eventually(lambda: len(broker.confirmed) >= 42)
        assert sorted(broker.confirmed) == sorted([*(f"out-{id_}" for id_ in ids), "a", "b"])
        assert await work_of(two) == ids
        assert [s.result for s in await two.status("m07")] == [{"id": "m07"}]
        two.received("other", delivery("m07"))
        assert len(await two.status("m07")) == 2


async def test_nothing_is_left_with_sessions_that_go_to_others(
    behind: Callable[[str], str],
) -> None:
    """No prepared statement, no LISTEN, no setting; locks have the time that they always have."""
    async with Store(behind("transaction"), relay=False) as store:
        assert store.start(FakeBroker().send) is None
        await asyncio.gather(*(publish(store, str(i), key=str(i % 3)) for i in range(20)))
        async with store.transaction() as transaction:
            asked = await transaction.execute(text("SHOW lock_timeout"))
            assert asked.scalar_one() == "30s"
        async with store._open().database.reading() as connection:
            for question, answer in (
                ("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''", 0),
                ("SELECT count(*) FROM pg_listening_channels()", 0),
                ("SHOW lock_timeout", "0"),
            ):
                assert (await connection.execute(text(question))).scalar_one() == answer


@pytest.mark.parametrize("mode", ["transaction", "session", "none"])
async def test_def_handlers_work_behind_pgbouncer(
    behind: Callable[[str], str], mode: str, postgres_database: str
) -> None:
    """Each message has one effect; commits wait for the disk, and locks not for ever."""

    def run(transaction: SyncTransaction) -> list[Any]:
        id_ = uuid.uuid4().hex
        transaction.execute(text("INSERT INTO work VALUES (:id)"), {"id": id_})
        transaction.publish("e", "k", b"", key=id_[0])
        names = ("lock_timeout", "transaction_isolation")
        return [transaction.execute(text(f"SHOW {each}")).scalar() for each in names]

    database = make_url(postgres_database).database
    async with Store(postgres_database, relay=False) as direct:
        await make_work(direct)
        async with direct.transaction() as transaction:
            for statement in ("CREATE TABLE seen (setting text)", SEES, TRIGGER):
                await transaction.execute(text(statement))
            for unsafe in ("synchronous_commit = off", "lock_timeout = 0"):
                await transaction.execute(text(f'ALTER DATABASE "{database}" SET {unsafe}'))
    async with Store(behind(mode), relay=False, pool=10) as store:
        runs = (once(store, f"m{n % 20}", run) for n in range(40))
        assert await asyncio.gather(*runs) == [["30s", "read committed"]] * 40
        assert len(await work_of(store)) == await store.pending() == 20
        async with store.transaction() as transaction:
            seen = (await transaction.execute(text("SELECT DISTINCT setting FROM seen"))).scalars()
            assert list(seen) == ["on"]


@pytest.mark.parametrize("mode", ["none", "transaction"])
@pytest.mark.parametrize(
    ("chosen", "held"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
@pytest.mark.parametrize("where", ["database", "handler"])
async def test_a_commit_waits_for_the_disk(
    behind: Callable[[str], str], name: str, mode: str, chosen: str, held: str, where: str
) -> None:
    """Whoever turned that off; what waits for more than this server's disk is left as it is."""
    url = behind(mode)
    async with Store(behind("none"), relay=False) as store, store.transaction() as transaction:
        statements = [
            "CREATE TABLE work (id VARCHAR(80))",
            "CREATE TABLE seen (value VARCHAR(80))",
            SEES,
            # Run as a part of the commit, after all that anybody else did.
            TRIGGER,
        ]
        for statement in statements:
            await transaction.execute(text(statement))
        if where == "database":
            setting = f"SET synchronous_commit = {chosen}"
            await transaction.execute(text(f'ALTER DATABASE "{name}" {setting}'))

    async def run(transaction: Transaction) -> None:
        if where == "handler":
            await transaction.execute(text(f"SET LOCAL synchronous_commit = {chosen}"))
        await transaction.execute(text("INSERT INTO work VALUES ('a')"))

    async with Store(url, relay=False) as store:
        await store.run_once("h", delivery("m"), run)
        async with store.transaction() as transaction:
            found = await transaction.execute(text("SELECT value FROM seen"))
            assert list(found.scalars()) == [held]


async def test_sqlite_waits_for_the_disk(sqlite_database: str) -> None:
    """Its log is synced with each commit; a transaction cannot change that."""
    async with Store(sqlite_database, relay=False) as store:

        async def run(transaction: Transaction) -> tuple[int, str]:
            synchronous = await transaction.execute(text("PRAGMA synchronous"))
            journal = await transaction.execute(text("PRAGMA journal_mode"))
            return synchronous.scalar_one(), journal.scalar_one()

        assert await store.run_once("h", delivery("m"), run) == (2, "wal")
