"""Sagas as a store keeps them: rows, conflicts, histories, and when they are forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mqkit.errors import StoreConflictError, StoreError
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.store import Store, Transaction
from mqkit.store.schema import saga_history
from tests.unit.store.support import NOW, Jumping, delivery

ROW = SagaRow(
    name="payment",
    id="o-1",
    version=1,
    state_version=1,
    status="running",
    state='{"text":"\\u0000"}',
    progress="{}",
    started_at=NOW,
    updated_at=NOW,
)
ENTRY = SagaEntry("payment", "o-1", NOW, "h", "m", "Order", "ran", "running", "{}", "[]")

DAY = 86_400.0


async def within(store: Store, run: Callable[[Transaction], Awaitable[Any]]) -> Any:
    """Do something in a transaction of its own."""
    async with store.transaction() as transaction:
        return await run(transaction)


async def insert(store: Store, row: SagaRow = ROW, keep: float | None = None) -> None:
    """Write a saga."""
    entry = replace(ENTRY, name=row.name, id=row.id)
    await within(store, lambda it: it.saga_rows.insert(row, entry, keep=keep))


async def test_a_saga_is_read_as_it_was_written(database: str) -> None:
    """NUL in its state's JSON, times and all; and as the last version of it."""
    async with Store(database, relay=False) as store:
        assert await within(store, lambda it: it.saga_rows.find("payment", "o-1")) is None
        await insert(store)
        assert await within(store, lambda it: it.saga_rows.find("payment", "o-1")) == ROW
        second = replace(ROW, version=2, status="compensating", updated_at=NOW + timedelta(1))
        await within(store, lambda it: it.saga_rows.update(second, ENTRY, keep=None))
        (story,) = await store.saga("o-1")
        assert story.saga == second
        assert await store.saga("o-1", name="other") == []
        assert await store.saga("o\0-1") == []


async def test_the_same_change_cannot_be_made_twice(database: str) -> None:
    """Who read a version that is not the last one any more meets a conflict, and writes nothing."""
    async with Store(database, relay=False) as store:
        await insert(store)
        with pytest.raises(StoreConflictError, match="'o-1' was started by another message"):
            await insert(store)
        await within(
            store, lambda it: it.saga_rows.update(replace(ROW, version=2), ENTRY, keep=None)
        )
        late = replace(ROW, version=2, status="completed")
        with pytest.raises(StoreConflictError, match="'o-1' was changed by another mes") as caught:
            await within(store, lambda it: it.saga_rows.update(late, ENTRY, keep=1.0))
        assert caught.value.wait is not None
        (story,) = await store.saga("o-1")
        assert story.saga.status == "running"


async def test_who_comes_second_waits_and_sees_what_the_first_one_left(database: str) -> None:
    """A saga that was found is locked until the end of the transaction."""
    order: list[str] = []
    async with Store(database, relay=False) as store, Store(database, relay=False) as other:
        await insert(store)
        found, is_found = asyncio.Event(), asyncio.Event()

        async def first(transaction: Transaction) -> None:
            await transaction.saga_rows.find("payment", "o-1")
            found.set()
            await is_found.wait()
            order.append("first")
            await transaction.saga_rows.update(replace(ROW, version=2), ENTRY, keep=None)

        async def second(transaction: Transaction) -> int:
            row = await transaction.saga_rows.find("payment", "o-1")
            order.append("second")
            assert row is not None
            return row.version

        one = asyncio.create_task(within(store, first))
        await found.wait()
        two = asyncio.create_task(within(other, second))
        await asyncio.sleep(0.1)  # which it would have used, if it did not wait
        is_found.set()
        await one
        assert await two == 2
    assert order == ["first", "second"]


async def test_a_conflict_costs_others_of_the_group_nothing(database: str) -> None:
    """They share a transaction: the one that lost the race fails, and the others are committed."""

    def run_of(saga_id: str) -> Callable[[Transaction], Awaitable[None]]:
        async def run(transaction: Transaction) -> None:
            await transaction.saga_rows.insert(replace(ROW, id=saga_id), ENTRY, keep=None)

        return run

    async with Store(database, relay=False) as store:
        await insert(store)
        ends = await asyncio.gather(
            *(
                store.run_once("h", delivery(f"m{n}"), run_of(f"o-{n}"), at_once=8)
                for n in range(8)
            ),
            return_exceptions=True,
        )
        assert [type(end) for end in ends if end] == [StoreConflictError]
        assert len(await store.sagas()) == 8
        assert await store.status("m1") == []


async def test_a_completed_saga_is_forgotten_with_its_history_and_no_other(database: str) -> None:
    """After the time that it is kept; what runs is kept for ever, and what came later with it."""
    clock = Jumping()
    async with Store(database, relay=False, clock=clock) as store:
        await insert(store)
        await insert(store, replace(ROW, id="o-2"))
        done = replace(ROW, version=2, status="completed", completed_at=NOW)
        await within(store, lambda it: it.saga_rows.update(done, ENTRY, keep=DAY))
        await within(store, lambda it: it.saga_rows.note(replace(ENTRY, result="ignored")))
        await make_old(store, clock, hours=23)
        assert await store._purge() == 0
        await make_old(store, clock, hours=2)
        assert await store._purge() == 1
        assert [row.id for row in await store.sagas()] == ["o-2"]
        assert len((await store.saga("o-2"))[0].history) == 1
        left = await within(store, lambda it: it.execute(select(saga_history.c.id)))
        assert left.scalars().all() == ["o-2"]


async def make_old(store: Store, clock: Jumping, *, hours: int) -> None:
    """Let time pass: a server goes by its own clock, so that its rows are made older."""
    clock.jump(hours=hours)
    if store._open().database.dialect.has_notify:
        aged = f"UPDATE mqkit_saga SET keep_until = keep_until - interval '{hours} hours'"  # noqa: S608
        await within(store, lambda it: it.execute(text(aged)))


async def test_sagas_are_listed_by_name_and_status(database: str) -> None:
    """The ones that changed last first, and no more than asked for."""
    async with Store(database, relay=False) as store:
        for n in range(3):
            moment = NOW + timedelta(seconds=n)
            await insert(store, replace(ROW, id=f"o-{n}", updated_at=moment))
        await insert(store, replace(ROW, name="refund", status="completed"))
        assert [row.id for row in await store.sagas(limit=2)] == ["o-2", "o-1"]
        assert [row.id for row in await store.sagas(limit=2, offset=1)] == ["o-1", "o-0"]
        assert [row.name for row in await store.sagas(name="refund")] == ["refund"]
        assert [row.name for row in await store.sagas(status="completed")] == ["refund"]


async def drop_sagas(database: str) -> None:
    """Make it a store of a version without sagas."""
    async with Store(database, relay=False) as store:
        for table in ("mqkit_saga", "mqkit_saga_history"):
            await within(store, lambda it, table=table: it.execute(text(f"DROP TABLE {table}")))  # type: ignore[misc]


async def test_a_store_of_a_version_without_sagas_gets_their_tables(database: str) -> None:
    """It is opened as ever; all else stays as it is."""
    await drop_sagas(database)
    async with Store(database, relay=False) as store:
        await insert(store)
        assert [row.id for row in await store.sagas()] == ["o-1"]


async def test_without_leave_to_make_tables_only_who_has_sagas_needs_them(database: str) -> None:
    """A service without any is opened and purges; one with some is refused, and told what lacks."""
    await drop_sagas(database)
    async with Store(database, relay=False, create_tables=False) as store:
        assert await store._purge() == 0
        with pytest.raises(StoreError, match="has no table mqkit_saga and no table mqkit_saga_his"):
            await store.sagas()
        with pytest.raises(StoreError, match="has no table mqkit_saga"):
            await store.saga("o-1")
    with_sagas = Store(database, relay=False, create_tables=False)
    assert with_sagas.keep_sagas() is Transaction
    with pytest.raises(StoreError, match="has no table mqkit_saga"):
        await with_sagas.open()


async def test_the_history_takes_any_message_id(database: str) -> None:
    """Also one with half of a character in it, which a database refuses."""
    async with Store(database, relay=False) as store:
        await insert(store)
        odd = replace(ENTRY, message_type="a\0b\ud800", published=json.dumps([{"type": "x"}]))
        await within(store, lambda it: it.saga_rows.note(odd))
        (story,) = await store.saga("o-1")
        assert story.history[-1].message_type == "a\\0b\\ud800"


class _Base(DeclarativeBase):
    """Tables of this module."""


class _Visit(_Base):
    __tablename__ = "visit"
    id: Mapped[str] = mapped_column(primary_key=True)


@pytest.mark.parametrize("is_local", [True, False])
async def test_a_saga_is_found_under_another_search_path(
    postgres_database: str, *, is_local: bool
) -> None:
    """One that its method has set, whose own rows go where that says."""
    statement = f"SET {'LOCAL' if is_local else ''} search_path TO tenant"
    async with Store(postgres_database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.execute(text("CREATE SCHEMA tenant"))
            await transaction.execute(text("CREATE TABLE tenant.visit (id VARCHAR PRIMARY KEY)"))
        async with store.transaction() as transaction:
            assert await transaction.saga_rows.find("payment", "o-1") is None
            await transaction.execute(text(statement))
            transaction.session.add(_Visit(id="a"))
            await transaction.saga_rows.insert(ROW, ENTRY, keep=None)
        async with store.transaction() as transaction:
            assert await transaction.saga_rows.find("payment", "o-1") == ROW
            visits = await transaction.execute(text("SELECT id FROM tenant.visit"))
            assert list(visits.scalars()) == ["a"]
