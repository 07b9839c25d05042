"""What is handed in as the machine is used in all places that would take it from the real one."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from pathlib import Path
from typing import Any

from mqkit import Publisher
from mqkit.store import Store
from mqkit.system.machine import Machine, daemon_thread, file_lock


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """Who comes second is told; once the first has let go, he gets it."""
    path = str(tmp_path / "lock")
    with file_lock(path) as first, file_lock(path) as second:
        assert (first, second) == (True, False)
    with file_lock(path) as third:
        assert third


def test_a_thread_of_a_probe_keeps_no_process_from_ending() -> None:
    """It is a daemon."""
    seen: list[bool] = []
    thread = daemon_thread(lambda: seen.append(threading.current_thread().daemon), "probe")
    thread.start()
    while thread.is_alive():
        pass
    assert seen == [True]


def test_message_ids_are_made_of_the_machines_random_bytes() -> None:
    """The same bytes give the same ids, as a simulation wants them."""
    publisher = Publisher("amqp://localhost", machine=Machine(random_bytes=bytes))
    assert publisher.new_id() == str(uuid.UUID(bytes=bytes(16), version=4))


async def test_a_store_takes_its_connections_ids_and_locks_from_its_machine(tmp_path: Path) -> None:
    """Without a thread; the relay's lock is the one that is handed in."""
    connected: list[sqlite3.Connection] = []
    locked: list[str] = []

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connected.append(sqlite3.connect(*arguments, **options))
        return connected[-1]

    def hold(path: str) -> Any:
        locked.append(path)
        return file_lock(path)

    machine = Machine(
        random_bytes=bytes, connect_sqlite=connect, sqlite_in_thread=False, file_lock=hold
    )
    before = threading.active_count()
    async with Store(f"sqlite:///{tmp_path}/s", machine=machine) as store:
        async with store.transaction() as transaction:
            drawn = await transaction.publish("x", "k", 1)
        async with store._open().database.dialect.relaying() as mine:
            assert mine
        assert threading.active_count() == before
    assert drawn == str(uuid.UUID(bytes=bytes(16), version=4))
    assert connected
    assert locked == [f"{tmp_path}/s-relay"]
