"""The store as a service and an application use it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming.wiring import running
from mqkit.errors import ConfigurationError, HandlerError, StoreError
from mqkit.outcome import Ack, RetryLater
from mqkit.store import Store, Transaction
from mqkit.store.schema import MAX_ID, metadata
from tests.unit.store.support import FakeBroker, delivery, publish, statements


@dataclass
class Accounts:
    """Made from the transaction."""

    transaction: Transaction


@dataclass
class Bank:
    """Made from what is made from it."""

    accounts: Accounts


@dataclass(frozen=True)
class Policy:
    """What a store must know of a handler."""

    name: str
    longest_retry: float


async def test_opened_twice_it_is_closed_with_the_last(database: str) -> None:
    """Also where both came at once: they share one pool."""
    store = Store(database, relay=False)
    await asyncio.gather(store.open(), store.open())
    await store.close()
    await publish(store, "m")
    assert await store.pending() == 1
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await store.pending()
    await store.close()  # which does nothing
    async with store:
        assert await store.pending() == 1


async def test_a_store_that_is_not_open_says_so_in_every_use(database: str) -> None:
    """Rather than failing somewhere inside."""
    store = Store(database)

    async def transaction() -> None:
        async with store.transaction():
            pass

    async def once() -> None:
        await store.run_once("h", delivery("m"), lambda _: asyncio.sleep(0))

    for use in (
        store.ping,
        store.pending,
        store.unpublished,
        lambda: store.status("m"),
        transaction,
        once,
    ):
        with pytest.raises(StoreError, match="not open: await"):
            await use()
    with pytest.raises(StoreError, match="not open"):
        store.start(FakeBroker().send)
    await store.stop()


async def test_one_that_failed_to_open_can_be_opened_later(postgres_database: str) -> None:
    """Nothing of the failed attempt is left."""
    store = Store(postgres_database, create_tables=False)
    with pytest.raises(StoreError, match="no table"):
        await store.open()
    async with Store(postgres_database, relay=False):
        pass
    async with store:
        await store.ping()


async def test_without_a_url_it_is_the_environment_s(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read when it is opened; with neither, the error names both."""
    store = Store(relay=False)
    monkeypatch.delenv("MQKIT_STORE", raising=False)
    with pytest.raises(ConfigurationError, match="MQKIT_STORE"):
        await store.open()
    monkeypatch.setenv("MQKIT_STORE", database)
    async with store:
        await store.ping()


async def test_a_url_may_be_a_function_that_is_called_when_it_is_opened(tmp_path: Path) -> None:
    """Not before: a service is made when its module is imported, and its settings are read later.

    What it returns is checked as a URL that was given.
    """
    urls = iter(["mysql://there/db", f"sqlite:///{tmp_path / 'given'}"])
    store = Store(lambda: next(urls))
    with pytest.raises(ConfigurationError, match="SQLite or PostgreSQL, not 'mysql'"):
        await store.open()
    async with store:
        await store.ping()
    assert (tmp_path / "given").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sweep": 0},
        {"longest_retry": -1},
        {"replay_age": float("nan")},
        {"pool": 0},
    ],
)
def test_times_and_sizes_must_make_sense(wrong: dict[str, Any]) -> None:
    """Each is named in the error."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Store("sqlite:///x", **wrong)


def test_a_policy_that_outlasts_the_inbox_is_refused() -> None:
    """The handler is named, and both times."""
    store = Store("sqlite:///x", longest_retry=3600, replay_age=60)
    assert store.window == 3660
    store.check((Policy("fine", 3600),))
    with pytest.raises(ConfigurationError, match="handler slow may retry a message for 3601 s"):
        store.check((Policy("fine", 3600), Policy("slow", 3601)))
    with pytest.raises(ConfigurationError, match="over 255 characters"):
        store.check((Policy("x" * (MAX_ID + 1), 1),))


async def test_a_retry_later_past_the_inbox_is_refused(database: str) -> None:
    """The handler's own wait is held to the same bound as its policy."""

    async def run(_: Transaction) -> None:
        raise RetryLater(3601)

    async def shorter(_: Transaction) -> None:
        raise RetryLater(3600)

    async with Store(database, relay=False, longest_retry=3600) as store:
        with pytest.raises(ConfigurationError, match=r"3601 s.*now 3600 s"):
            await store.run_once("h", delivery("m"), run)
        with pytest.raises(RetryLater):
            await store.run_once("h", delivery("m"), shorter)


async def test_a_handler_s_providers_share_its_transaction(database: str) -> None:
    """What is made from it for one message, at any depth, is in the same one."""
    seen: list[Transaction] = []
    async with Store(database, relay=False) as store:
        service = Service("s", retry=Retry.never(), store=store)
        service.provide(Accounts, Accounts)
        service.provide(Bank, Bank)

        @service.handler(Queue("q"))
        async def handle(bank: Bank, transaction: Transaction, delivery: Delivery) -> int:
            assert bank.accounts.transaction is transaction
            seen.append(transaction)
            await transaction.publish("e", "k", b"")
            return len(seen)

        @service.handler(Queue("other"))
        async def only_made(bank: Bank) -> None:
            seen.append(bank.accounts.transaction)

        for handler, outcomes in zip(service.handlers, ([Ack(1)] * 2, [Ack()] * 2), strict=True):
            dispatcher = running(
                "s",
                handler,
                middleware=(),
                values={},
                providers=service.providers,
                executor=None,
                store=store,
            ).dispatcher
            found = [await dispatcher.dispatch(delivery("m")) for _ in range(2)]
            assert found == outcomes
        assert len(seen) == 2
        assert await store.pending() == 1


def test_a_def_handler_cannot_take_an_asynchronous_transaction() -> None:
    """It is refused at registration, with its name and what to take instead."""
    service = Service("s", retry=Retry.never(), store=Store("sqlite:///x"))

    def handle(transaction: Transaction) -> None: ...

    with pytest.raises(HandlerError, match=r"handle: a Transaction is .*takes a SyncTransaction"):
        service.handler(Queue("q"))(handle)


def test_one_function_on_two_queues_would_share_its_inbox() -> None:
    """What it did for one queue would keep it from running for the other: it is refused."""
    service = Service("s", retry=Retry.never(), store=Store("sqlite:///x"))

    async def handle(transaction: Transaction) -> None: ...

    service.handler(Queue("a"))(handle)
    with pytest.raises(HandlerError, match="already"):
        service.handler(Queue("b"))(handle)

    async def free(body: bytes) -> None: ...

    service.handler(Queue("c"))(free)
    service.handler(Queue("d"))(free)


def test_the_tables_are_the_store_s_own() -> None:
    """All names are under one prefix, for migrations that live beside an application's."""
    assert sorted(metadata.tables) == [
        "mqkit_inbox",
        "mqkit_outbox",
        "mqkit_saga",
        "mqkit_saga_history",
        "mqkit_state",
    ]


async def test_a_handled_message_costs_five_round_trips(postgres_database: str) -> None:
    """BEGIN, its inbox row, the handler's one statement, its messages with their lock, COMMIT."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("SELECT 1"))
        for _ in range(3):
            await transaction.publish("e", "k", b"", key="a")

    async with Store(postgres_database, relay=False) as store:
        await store.run_once("h", delivery("first"), run)
        with statements(store) as seen:
            await store.run_once("h", delivery("m"), run)
    inbox, outbox = "INSERT INTO mqkit_inbox", "INSERT INTO mqkit_outbox"
    assert seen == ["BEGIN", inbox, "SELECT 1", outbox, "COMMIT"]
