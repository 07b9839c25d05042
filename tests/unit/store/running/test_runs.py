"""Batches in a store's transaction: each message has its effect once, whatever others do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import (
    ConfigurationError,
    MessageIdError,
    MessageIdReusedError,
    StoreUnavailableError,
)
from mqkit.message import Delivery
from mqkit.outcome import RetryLater
from mqkit.store import Store, Transaction
from mqkit.store.inbox import take_out
from mqkit.store.running.transient import MAX_UNCOUNTED
from tests.unit.store.support import delivery, make_work, opened, statements, work_of


class Handler:
    """Writes and publishes for each message, and notes which it was given."""

    def __init__(self, **results: Any) -> None:
        self.results = results
        self.given: list[list[str]] = []

    async def __call__(self, transaction: Transaction, deliveries: Sequence[Delivery]) -> list[Any]:
        ids = [each.message_id or "" for each in deliveries]
        self.given.append(ids)
        await transaction.execute(text("INSERT INTO work VALUES (:id)"), [{"id": i} for i in ids])
        for each in ids:
            await transaction.publish("e", "k", b"", key=each, message_id=f"{each}.done")
        return [self.results.get(each) for each in ids]


class Deadlock(Exception):  # noqa: N818
    """What a driver says to a deadlock's victim."""

    sqlstate = "40P01"


def batch(*ids: str) -> list[Delivery]:
    """Deliveries with these ids."""
    return [delivery(each) for each in ids]


async def unrun(transaction: Transaction, deliveries: Sequence[Delivery]) -> list[Any]:
    """Be run for nothing."""
    raise AssertionError(deliveries)


async def test_a_batch_is_run_for_what_was_not_handled_before(database: str) -> None:
    """The others' first results are told again, and it is not run at all where none is left."""
    handler = Handler(a={"n": 1}, c='\0"é')

    async def alone(_: Transaction) -> str:
        return "alone"

    async with Store(database, relay=False) as store:
        await make_work(store)
        await store.run_once("h", delivery("b"), alone)
        found = await store.run_batch_once("h", batch("c", "b", "d", "a"), handler)
        assert found == ['\0"é', "alone", None, {"n": 1}]
        again = await store.run_batch_once("h", batch("a", "b", "c", "d"), unrun)
        assert again == [{"n": 1}, "alone", '\0"é', None]
        assert await store.run_once("h", delivery("a"), alone) == {"n": 1}
        assert await work_of(store) == ["a", "c", "d"]
        assert await store.pending() == 3
    assert handler.given == [["c", "d", "a"]]


async def test_a_member_that_failed_may_run_again_and_the_others_not(database: str) -> None:
    """Its row is taken out again; what it wrote is taken back by a savepoint of the handler's."""

    async def first(transaction: Transaction, deliveries: Sequence[Delivery]) -> list[Any]:
        results: list[Any] = []
        for each, row in zip(deliveries, ("a", "a", "c"), strict=True):
            try:
                async with transaction.connection.begin_nested():
                    await transaction.execute(text("INSERT INTO work VALUES (:id)"), {"id": row})
            except IntegrityError as error:
                results.append(error)
                continue
            await transaction.publish("e", "k", b"", message_id=f"{each.message_id}.done")
            results.append(RetryLater(3601) if row == "c" else "one")
        return results

    async with Store(database, relay=False, longest_retry=3600) as store:
        await make_work(store)
        one, two, three = await store.run_batch_once("h", batch("a", "b", "c"), first)
        assert one == "one"
        assert isinstance(two, IntegrityError)
        assert isinstance(three, ConfigurationError), "its inbox would have forgotten it"
        assert await work_of(store) == ["a", "c"]
        assert [each.message_id for each in await store.unpublished()] == ["a.done", "c.done"]
        second = Handler(b="two")
        assert await store.run_batch_once("h", batch("a", "b"), second) == ["one", "two"]
        assert second.given == [["b"]]


async def test_what_a_run_raises_leaves_nothing_of_it(database: str) -> None:
    """It is the failure of all that it was for, and not of those that were handled before."""
    handler = Handler()

    async def fail(transaction: Transaction, deliveries: Sequence[Delivery]) -> list[Any]:
        await handler(transaction, deliveries)
        raise LookupError

    async with Store(database, relay=False) as store:
        await make_work(store)
        with pytest.raises(LookupError):
            await store.run_batch_once("h", batch("a", "b"), fail)
        assert await work_of(store) == []
        await store.run_batch_once("h", batch("a"), Handler(a=1))
        found = await store.run_batch_once("h", batch("b", "a"), fail)
        assert isinstance(found[0], LookupError)
        assert found[1] == 1
        assert await work_of(store) == ["a"]
        assert await store.pending() == 1
        await store.run_batch_once("h", batch("b"), handler)
    assert handler.given == [["a", "b"], ["b"], ["b"]]


@pytest.mark.parametrize("wrong", ["", "a\0b", "\udcff", "x" * 256])
async def test_an_id_that_cannot_be_one_fails_alone(sqlite_database: str, wrong: str) -> None:
    """It is known without a look into the database, of which the others need not know."""
    async with Store(sqlite_database, relay=False) as store:
        await make_work(store)
        found = await store.run_batch_once("h", batch("a", wrong, "b"), Handler(a=1, b=2))
    assert isinstance(found.pop(1), MessageIdError)
    assert found == [1, 2]


async def test_an_id_that_was_used_before_fails_alone(database: str) -> None:
    """Its body is another one."""
    other = replace(delivery("a"), body=b"other")
    async with Store(database, relay=False) as store:
        await make_work(store)
        await store.run_batch_once("h", batch("a"), Handler())
        found = await store.run_batch_once("h", [other, delivery("b")], Handler(b=2))
        assert isinstance(found[0], MessageIdReusedError)
        assert found[1] == 2
        assert await work_of(store) == ["a", "b"]


async def test_batches_that_overlap_wait_for_each_other(database: str) -> None:
    """In whatever order their messages came: none is a deadlock's victim, each runs once."""
    ids = [f"m{number:03}" for number in range(300)]
    here, there = Handler(), Handler()
    async with (
        Store(database, relay=False) as store,
        Store(database, relay=False) as other,
    ):
        await make_work(store)
        found = await asyncio.gather(
            store.run_batch_once("h", batch(*ids), here),
            other.run_batch_once("h", batch(*reversed(ids)), there),
        )
        assert [len(each) for each in found] == [300, 300]
        assert {result for each in found for result in each} == {None}
        assert await work_of(store) == ids
        assert sorted(each for run in (*here.given, *there.given) for each in run) == ids


async def test_messages_are_claimed_in_one_order(postgres_database: str) -> None:
    """One that waits for another's message holds none that comes after it: nobody deadlocks."""
    began, end = asyncio.Event(), asyncio.Event()

    async def slow(_: Transaction) -> None:
        began.set()
        await end.wait()

    async def quick(_: Transaction) -> str:
        return "quick"

    async def is_waiting(store: Store) -> bool:
        async with store.transaction() as transaction:
            waiting = await transaction.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE wait_event = 'transactionid' AND datname = current_database()"
                )
            )
            return bool(waiting.scalar_one())

    async with Store(postgres_database, relay=False) as store, asyncio.timeout(10):
        await make_work(store)
        first = asyncio.create_task(store.run_once("h", delivery("a"), slow))
        await began.wait()
        both = asyncio.create_task(store.run_batch_once("h", batch("b", "a"), Handler()))
        while not await is_waiting(store):
            await asyncio.sleep(0.01)
        assert await store.run_once("h", delivery("b"), quick) == "quick"
        end.set()
        await first
        assert await both == ["quick", None]


async def test_a_database_s_failure_costs_no_message_an_attempt(database: str) -> None:
    """Each waits for a time of its own, and has an end where the database is well."""
    failure = OperationalError("INSERT", None, Deadlock())

    async def fail(_: Transaction, __: Sequence[Delivery]) -> list[Any]:
        raise StoreUnavailableError("a deadlock")

    async with Store(database, relay=False) as store:
        await make_work(store)
        await store.run_batch_once("h", batch("done"), Handler(done=1))
        for _ in range(MAX_UNCOUNTED):
            found = await store.run_batch_once("h", batch("a", "done", "b"), fail)
            assert found.pop(1) == 1
            assert [type(each) for each in found] == [StoreUnavailableError] * 2
            assert found[0].wait != found[1].wait
        found = await store.run_batch_once("h", batch("a", "c"), fail)
        assert [type(each).__name__ for each in found] == [
            "StatementError",
            "StoreUnavailableError",
        ]
        # One that the handler caught in a savepoint, and returned, is no other.
        found = await store.run_batch_once("h", batch("d", "e"), Handler(d=failure, e=2))
        assert isinstance(found[0], StoreUnavailableError)
        assert found[0].wait is not None
        assert found[1] == 2


async def test_nothing_is_handled_whose_commit_failed(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No result gets out before that, and all of it may run again."""

    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("away")

    async with Store(database, relay=False) as store:
        await make_work(store)
        with monkeypatch.context() as patched:
            patched.setattr(AsyncConnection, "commit", fail)
            found = await store.run_batch_once("h", batch("a", "b"), Handler(a=1))
        assert [type(each) for each in found] == [StoreUnavailableError] * 2
        assert await store.run_batch_once("h", batch("a", "b"), Handler(a=1)) == [1, None]
        assert await work_of(store) == ["a", "b"]
        assert await store.pending() == 2


async def test_a_batch_costs_as_many_statements_as_a_message(postgres_database: str) -> None:
    """Inbox, the handler's own, outbox, what failed, results: one each for however many."""
    results: dict[str, Any] = {f"m{number}": number for number in range(50)}
    results["m7"] = results["m8"] = LookupError()
    async with Store(postgres_database, relay=False) as store:
        await make_work(store)
        with statements(store) as seen:
            await store.run_batch_once("h", batch(*results), Handler(**results))
    assert seen == [
        "BEGIN",
        "INSERT INTO mqkit_inbox",
        "INSERT INTO work",
        "INSERT INTO mqkit_outbox",
        "DELETE FROM mqkit_inbox",
        "UPDATE mqkit_inbox SET",
        "COMMIT",
    ]


async def test_a_batch_may_be_as_large_as_any(sqlite_database: str) -> None:
    """Also where a statement takes no more than so many variables."""
    ids = [str(number) for number in range(33_000)]
    async with opened(sqlite_database) as database, database.transaction() as connection:
        await take_out(connection, database.dialect, "h", batch(*ids))
