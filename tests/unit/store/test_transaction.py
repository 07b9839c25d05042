"""The transaction that a handler asks for: all of it is committed, or nothing."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import String, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mqkit.errors import ConfigurationError, InvalidMessageError, StoreError
from mqkit.store import Store, Transaction
from mqkit.topology import Exchange
from tests.support import eventually
from tests.unit.store.support import (
    FakeBroker,
    Jumping,
    delivery,
    is_sqlite,
    make_work,
    work_of,
)


class Base(DeclarativeBase):
    """Of the one class below."""


class Work(Base):
    """A row of the table that `make_work` makes."""

    __tablename__ = "work"
    id: Mapped[str] = mapped_column(String(80), primary_key=True)


async def test_work_and_messages_are_committed_together(database: str) -> None:
    """After the block both are there."""
    async with Store(database, relay=False) as store:
        await make_work(store)
        async with store.transaction() as transaction:
            await transaction.execute(text("INSERT INTO work VALUES ('a')"))
            message_id = await transaction.publish("e", "k", {"n": 1}, key="acc")
        assert await work_of(store) == ["a"]
        (status,) = await store.status(message_id)
        assert status.state == "outgoing"


async def test_a_rollback_takes_the_outbox_rows_along(database: str) -> None:
    """An exception leaves neither work nor messages."""
    async with Store(database, relay=False) as store:
        await make_work(store)

        async def fail() -> None:
            async with store.transaction() as transaction:
                await transaction.execute(text("INSERT INTO work VALUES ('a')"))
                await transaction.publish("e", "k", b"")
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert await work_of(store) == []
        assert await store.pending() == 0


async def test_a_delay_begins_when_it_is_published_and_time_in_the_outbox_is_part_of_it(
    database: str,
) -> None:
    """However late the relay comes, it publishes the message for the moment that was meant."""
    clock, broker = Jumping(), FakeBroker()
    began = clock.now
    async with Store(database, clock=clock) as store:
        async with store.transaction() as transaction:
            await transaction.publish("e", "by delay", b"", delay=60)
            await transaction.publish("e", "by time", b"", at=began + timedelta(days=1))
            await transaction.publish("e", "at once", b"")
        clock.jump(seconds=45)
        store.start(broker.send)
        await eventually(lambda: len(broker.messages) == 3)
        await store.stop()
    assert {each.routing_key: each.due for each in broker.messages} == {
        "by delay": began + timedelta(seconds=60),
        "by time": began + timedelta(days=1),
        "at once": None,
    }


async def test_what_a_service_may_not_publish_to_is_refused(database: str) -> None:
    """At once, and the transaction is still good."""
    async with Store(database, relay=False) as store, store.transaction() as transaction:
        seen: list[Exchange] = []

        def refuse(exchange: Exchange) -> None:
            seen.append(exchange)
            raise ConfigurationError("not to this one")

        transaction.check_exchange = refuse
        with pytest.raises(ConfigurationError, match="not to this one"):
            await transaction.publish(Exchange("events"), "k", b"")
        await transaction.publish("events", "k", b"")
        assert (seen, len(transaction.messages)) == ([Exchange("events")], 1)


async def test_what_an_orm_session_holds_is_flushed(database: str) -> None:
    """Added objects are committed without a flush by the handler."""
    async with Store(database, relay=False) as store:
        await make_work(store)

        async def run(transaction: Transaction) -> None:
            assert transaction.session is transaction.session
            transaction.session.add(Work(id="added"))

        await store.run_once("h", delivery("m"), run)
        assert await work_of(store) == ["added"]


async def test_a_session_s_commit_does_not_commit_the_transaction(database: str) -> None:
    """It ends a savepoint: an exception after it undoes its work too."""
    async with Store(database, relay=False) as store:
        await make_work(store)

        async def fail() -> None:
            async with store.transaction() as transaction:
                transaction.session.add(Work(id="a"))
                await transaction.session.commit()
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert await work_of(store) == []
        async with store.transaction() as transaction:
            transaction.session.add(Work(id="kept"))
            await transaction.session.commit()
            transaction.session.add(Work(id="undone"))
            await transaction.session.flush()
            await transaction.session.rollback()
        assert await work_of(store) == ["kept"]


async def test_a_commit_by_hand_is_refused(database: str) -> None:
    """It would part the work from the message's inbox row; nothing is committed."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("INSERT INTO work VALUES ('a')"))
        await transaction.connection.commit()

    async with Store(database, relay=False) as store:
        await make_work(store)
        with pytest.raises(StoreError, match="not committed by hand"):
            await store.run_once("h", delivery("m"), run)
        for _ in range(30):  # whichever connection of the pool
            assert await work_of(store) == []
        assert await store.status("m") == []


async def test_a_rollback_by_hand_is_found_out(database: str) -> None:
    """What was done after it would be committed without the inbox row: it is not."""

    async def run(transaction: Transaction) -> None:
        await transaction.connection.rollback()
        await transaction.execute(text("INSERT INTO work VALUES ('a')"))

    async with Store(database, relay=False) as store:
        await make_work(store)
        with pytest.raises(StoreError, match="ended by hand"):
            await store.run_once("h", delivery("m"), run)
        assert await work_of(store) == []
        assert await store.status("m") == []


@pytest.mark.parametrize("publishes", [False, True])
async def test_a_swallowed_error_is_not_taken_for_a_commit(
    database: str, *, publishes: bool
) -> None:
    """PostgreSQL rolls such a transaction back at its COMMIT and calls that a success."""

    async def run(transaction: Transaction) -> str:
        await transaction.execute(text("INSERT INTO work VALUES ('a')"))
        with pytest.raises(DBAPIError):
            await transaction.execute(text("INSERT INTO work VALUES ('a')"))
        if publishes:
            await transaction.publish("e", "k", b"")
        return "went on"

    async with Store(database, relay=False) as store:
        await make_work(store)
        if is_sqlite(database):  # which undoes the one statement only
            assert await store.run_once("h", delivery("m"), run) == "went on"
            assert await work_of(store) == ["a"]
            return
        with pytest.raises(StoreError, match="the handler went on") as caught:
            await store.run_once("h", delivery("m"), run)
        assert "unique constraint" in str(caught.value.__cause__)
        assert await work_of(store) == []
        assert await store.status("m") == []


async def test_an_error_that_a_savepoint_took_back_is_committed_over(database: str) -> None:
    """Work around the savepoint counts."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("INSERT INTO work VALUES ('a')"))
        with pytest.raises(DBAPIError):
            async with transaction.connection.begin_nested():
                await transaction.execute(text("INSERT INTO work VALUES ('a')"))
        await transaction.execute(text("INSERT INTO work VALUES ('b')"))

    async with Store(database, relay=False) as store:
        await make_work(store)
        await store.run_once("h", delivery("m"), run)
        assert await work_of(store) == ["a", "b"]


NEVER: list[dict[str, Any]] = [
    {"headers": {"x": 2**70}},
    {"headers": {"x": -(2**63) - 1}},
    {"headers": {"x": math.inf}},
    {"headers": {"x": math.nan}},
    {"headers": {"x": Decimal("1e300")}},
    {"headers": {"x": Decimal("12345678901.55")}},
    {"headers": {"x": datetime(1969, 1, 1)}},  # noqa: DTZ001 - the wrong one
    {"headers": {"x": {1, 2}}},
    {"headers": {"x": [(1, 2)]}},
    {"headers": {"x": {"deep": {5: 1}}}},
    {"headers": {"x": object()}},
    {"headers": {"x": "\ud800"}},
    {"headers": {"\ud800": 1}},
    {"headers": {"a\0": 1}},
    {"headers": {5: 1}},
    {"headers": {"mqkit-attempt": 9}},
    {"headers": {"x": "y" * 100_000}},
    {"headers": [("a", 1)]},
    {"priority": 1.5},
    {"priority": "5"},
    {"priority": True},
    {"priority": 256},
    {"expiration": "5000"},
    {"expiration": math.nan},
    {"expiration": -1},
    {"persistent": "no"},
    {"mandatory": "no"},
    {"exchange": None},
    {"exchange": "a\0b"},
    {"routing_key": "a\0b"},
    {"routing_key": None},
    {"message_id": "a\0b"},
    {"message_id": ""},
    {"message_id": 5},
    {"correlation_id": "\ud800"},
    {"reply_to": "r" * 256},
    {"type": b"x"},
    {"body": {"x": object()}},
    {"key": "\ud800"},
]
"""What no publish could ever write."""


async def test_what_can_never_be_published_is_refused_and_the_transaction_is_good(
    database: str,
) -> None:
    """A handler may catch the error and go on: its other messages and its work are committed."""
    async with Store(database, relay=False) as store:
        await make_work(store)
        async with store.transaction() as transaction:
            await transaction.execute(text("INSERT INTO work VALUES ('a')"))
            for wrong in NEVER:
                options = {"exchange": "e", "routing_key": "k", "body": {}, "key": "acc", **wrong}
                with pytest.raises(InvalidMessageError):
                    await transaction.publish(**options)
            await transaction.publish("e", "k", {}, key="acc", expiration=timedelta(minutes=1))
        assert await work_of(store) == ["a"]
        assert await store.pending() == 1


@pytest.mark.parametrize("key", [7, b"key", "a\0b"])
async def test_a_key_is_text(database: str, key: Any) -> None:
    """Another is refused at once, and the transaction is still good."""
    async with Store(database, relay=False) as store:
        async with store.transaction() as transaction:
            with pytest.raises(InvalidMessageError, match="its key is text"):
                await transaction.publish("e", "k", b"", key=key)
            await transaction.publish("e", "k", b"", key="")
        assert await store.pending() == 1
