"""The relay: publishes what is in the outbox, with confirms, and takes it out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from mqkit.errors import (
    BlockedError,
    ConnectionLostError,
    ExchangeNotFoundError,
    InvalidMessageError,
    NackedError,
    PublisherClosedError,
    PublishTimeoutError,
    StoreUnavailableError,
)
from mqkit.message import Message
from mqkit.store import State, Store
from mqkit.store import relay as relay_module
from mqkit.store.database.dialects import key_hash
from mqkit.store.database.pool import Database
from mqkit.store.database.postgresql.dialect import Postgres
from mqkit.store.outbox import Outbox, retry_wait
from mqkit.store.relay import ODD_ATTEMPTS, Relay
from mqkit.store.schema import outbox as table
from mqkit.topology import Exchange
from tests.support import ROOT, eventually
from tests.unit.store.support import NOW, FakeBroker, Jumping, claimed, opened, publish, refusal


async def nothing_to_purge() -> int:
    """Of a store without old rows."""
    return 0


def make(database: Database, broker: FakeBroker, *, sweep: float = 60.0, batch: int = 500) -> Relay:
    """A relay that is woken, and does not sweep by itself within a test."""
    return Relay(
        Outbox(database),
        broker.send,
        clock=Jumping(),
        purge=nothing_to_purge,
        sweep=sweep,
        batch=batch,
    )


@contextlib.asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[asyncio.Task[None]]:
    """The relay at work; stopped at the end."""
    task = asyncio.create_task(relay.run())
    try:
        yield task
    finally:
        relay.stop()
        await task


def fail(*ids: str, error: Callable[[], BaseException]) -> FakeBroker:
    """A broker that fails to take these."""
    broker = FakeBroker()

    async def refuse(message: Message) -> None:
        if message.properties.message_id in ids:
            raise error()

    broker.on_write = refuse
    return broker


async def test_what_is_committed_is_published_as_it_was_given(database: str) -> None:
    """Exchange, routing key, body and properties arrive; the outbox is empty after the confirm."""
    broker = FakeBroker()
    async with Store(database) as store:
        store.start(broker.send)
        async with store.transaction(app_id="app") as transaction:
            message_id = await transaction.publish(
                "events", "a.b", {"n": 1}, headers={"x": [b"\0", 1]}, priority=3, mandatory=False
            )
        await eventually(lambda: broker.confirmed == [message_id])
        await store.stop()
        assert await store.pending() == 0
    (message,) = broker.messages
    assert (message.exchange, message.routing_key, message.body) == ("events", "a.b", b'{"n":1}')
    assert message.properties.headers == {"x": [b"\0", 1]}
    assert (message.properties.priority, message.properties.app_id) == (3, "app")
    assert message.mandatory is False


async def test_the_exchange_of_a_message_comes_with_it(database: str) -> None:
    """To be declared where it is missing, by whichever relay publishes it; not that of a name."""
    broker, events = FakeBroker(), Exchange("events", type="fanout", mandatory=False)
    async with Store(database) as store:
        async with store.transaction() as transaction:
            await transaction.publish(events, "a", b"", key="k")
            await transaction.publish("orders", "b", b"", key="k")
        store.start(broker.send)
        await eventually(lambda: len(broker.confirmed) == 2)
    assert broker.declared == [events, None]
    assert [message.mandatory for message in broker.messages] == [False, True]


async def test_messages_of_a_key_are_written_one_after_the_other_s_confirm(database: str) -> None:
    """And others are not kept waiting for them."""
    broker, confirmed_at_write = FakeBroker(), dict[str, int]()

    async def slowly(message: Message) -> None:
        message_id = message.properties.message_id or ""
        confirmed_at_write[message_id] = len([i for i in broker.confirmed if i[0] == message_id[0]])
        await asyncio.sleep(0.01)

    broker.on_write = slowly
    async with Store(database) as store:
        for i in range(5):
            await publish(store, f"a{i}", key="a")
            await publish(store, f"b{i}", key="b")
        store.start(broker.send)
        await eventually(lambda: len(broker.confirmed) == 10)
    assert confirmed_at_write == {f"{key}{i}": i for i in range(5) for key in "ab"}
    # While one key waits for its confirm, the other is written.
    keys = [message_id[0] for message_id in broker.written]
    assert keys != sorted(keys)


async def test_a_commit_wakes_the_relay_of_its_store(database: str) -> None:
    """The message is published without waiting for a sweep."""
    broker = FakeBroker()
    async with Store(database, sweep=3600) as store:
        store.start(broker.send)
        await publish(store, "first")
        await eventually(lambda: broker.confirmed == ["first"])
        for i in range(5):
            await publish(store, f"m{i}")
            await eventually(lambda i=i: broker.confirmed[-1] == f"m{i}", within=5)  # type: ignore[misc]


async def test_a_commit_wakes_the_relay_of_another_store(postgres_database: str) -> None:
    """By NOTIFY, and not by the sweep, which is far away."""
    broker = FakeBroker()
    async with (
        Store(postgres_database, sweep=3600) as relays,
        Store(postgres_database, relay=False) as writes,
    ):
        relays.start(broker.send)
        database = relays._open().database

        async def listens() -> bool:
            async with database.reading() as connection:
                found = await connection.execute(
                    text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
                )
                return bool(found.scalar_one() == 1)

        await eventually(listens)
        for i in range(5):
            await publish(writes, f"m{i}")
            await eventually(lambda i=i: len(broker.confirmed) == i + 1)  # type: ignore[misc]


async def test_a_sweep_finds_what_nobody_told_of(database: str) -> None:
    """On SQLite another process cannot tell; the relay looks by itself at every sweep."""
    broker = FakeBroker()
    async with Store(database, sweep=0.05) as relays, Store(database, relay=False) as writes:
        writes._open()._notifier = None
        relays.start(broker.send)
        for i in range(5):
            loop = asyncio.get_running_loop()
            began = loop.time()
            await publish(writes, f"m{i}")
            await eventually(lambda i=i: len(broker.confirmed) == i + 1)  # type: ignore[misc]
            assert loop.time() - began < 5


@pytest.mark.parametrize(
    "kind", [ConnectionLostError, PublishTimeoutError, BlockedError, PublisherClosedError]
)
async def test_where_the_broker_is_away_what_was_confirmed_before_is_marked(
    database: str, kind: type[ConnectionLostError]
) -> None:
    """The rest stays as it is, counted as no refusal."""
    broker = fail("a2", error=lambda: refusal(kind, "away"))
    async with Store(database, relay=False) as store, opened(database) as db:
        await publish(store, "a1", "a2", "a3", key="a")
        await publish(store, "b1", key="b")
        relay = make(db, broker)
        with pytest.raises(kind):
            await relay.round(range(relay._outbox.shards))
        assert sorted(broker.confirmed) == ["a1", "b1"]
        assert relay.published == 2
        async with Outbox(db).claim(range(64), 500, Jumping().now) as claim:
            assert [(e.message_id, e.attempts) for e in claim.entries] == [("a2", 0), ("a3", 0)]


async def test_it_backs_off_while_the_broker_is_away_and_comes_back(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits do not hurry it; each wait is logged; when the broker is back, all is published."""
    waits: list[float] = []

    def longest(low: float, high: float) -> float:
        waits.append(high)
        return min(high, 0.01)

    monkeypatch.setattr("mqkit.store.relay.random.uniform", longest)
    away = True

    def error() -> BaseException:
        return refusal(ConnectionLostError, "the broker is away")

    broker = FakeBroker()

    async def refuse(_: Message) -> None:
        if away:
            raise error()

    broker.on_write = refuse
    async with Store(database) as store:
        store.start(broker.send)
        await publish(store, "m")
        await eventually(lambda: len(waits) >= 9)
        away = False
        await eventually(lambda: broker.confirmed == ["m"])
    assert waits[:9] == [0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10, 10]
    assert "outbox: nothing is published since" in caplog.text
    assert "the broker is away; trying again" in caplog.text
    assert caplog.text.count("nothing is published") == 1
    assert not any(record.exc_text for record in caplog.records)


async def test_a_refused_message_is_tried_again_and_holds_nobody_else(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged as an error with its id, and its key goes on after it."""
    broker, refusals = FakeBroker(), 0

    async def refuse(message: Message) -> None:
        nonlocal refusals
        if message.properties.message_id == "a1" and refusals < 2:
            refusals += 1
            raise refusal(NackedError, "full")

    broker.on_write = refuse
    async with Store(database, sweep=0.05) as store:
        await publish(store, "a1", "a2", key="a")
        await publish(store, "b1", key="b")
        store.start(broker.send)
        await eventually(lambda: len(broker.confirmed) == 3)
    assert broker.written == ["b1", "a1", "a2"]
    assert caplog.text.count("message a1 was refused 1 times and stays in the outbox: ") == 1
    assert "a1 was refused 2 times" not in caplog.text


async def test_what_waits_is_listed_and_is_due_once_the_clock_is_moved(database: str) -> None:
    """With its refusal and how long it waits, as what comes after it in its key does."""
    broker = fail("a1", error=lambda: refusal(NackedError, "full"))
    async with Store(database, sweep=60, clock=Jumping()) as store:
        await publish(store, "a1", "a2", key="a")
        await publish(store, "b1")
        store.start(broker.send)

        async def are(attempts: list[int]) -> bool:
            return [each.attempts for each in await store.unpublished()] == attempts

        await eventually(lambda: are([1, 0]))
        first, second = await store.unpublished()
        assert (first.message_id, second.message_id) == ("a1", "a2")
        assert (first.wait, second.wait) == (retry_wait(0), retry_wait(0))
        assert "full" in (first.error or "")
        assert second.error is None
        broker.on_write = None
        store.advance(retry_wait(0))
        await eventually(lambda: broker.confirmed == ["b1", "a1", "a2"])
        await eventually(lambda: are([]))


async def test_what_waits_and_what_is_dead_are_listed_a_page_at_a_time(database: str) -> None:
    """In the order in which they were written, with the time of that"""
    clock = Jumping()
    async with Store(database, relay=False, clock=clock) as store:
        await publish(store, "d1", "d2")
        async with store.transaction() as transaction:
            await transaction.execute(update(table).values(shard=-1, error="no exchange"))
        clock.jump(seconds=30)
        await publish(store, "w1", "w2", "w3")
        some = await store.unpublished(limit=2, offset=1)
        assert [each.message_id for each in some] == ["w2", "w3"]
        assert {each.written_at for each in some} == {NOW + timedelta(seconds=30)}
        (dead,) = await store.unpublished(dead=True, offset=1)
        assert (dead.message_id, dead.error, dead.written_at) == ("d2", "no exchange", NOW)


async def test_a_cause_of_refusals_is_one_line_a_minute(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However many messages meet it, under whatever keys; another exchange has its own."""
    broker, attempts = FakeBroker(), 0

    async def refuse(message: Message) -> None:
        nonlocal attempts
        attempts += 1
        text_ = f"{message.properties.message_id}: no such exchange"
        raise refusal(ExchangeNotFoundError, text_)

    broker.on_write = refuse
    async with Store(database, sweep=0.05) as store:
        async with store.transaction() as transaction:
            for i in range(200):
                await transaction.publish(f"e{i % 2}", f"k{i}", b"", key=f"k{i % 7}")
        store.start(broker.send)
        await eventually(lambda: attempts >= 30)
        assert await store.pending() == 200
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 2


async def test_what_can_never_be_published_is_set_aside_and_its_key_goes_on(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once; the row stays with its error, for status, and can be published later."""
    broker = fail("bad", error=lambda: InvalidMessageError("a header cannot be encoded"))
    async with Store(database, sweep=0.05) as store:
        await publish(store, "a", "bad", "b", "c", key="k")
        store.start(broker.send)
        await eventually(lambda: broker.confirmed == ["a", "b", "c"])

        async def is_empty() -> bool:
            return await store.pending() == 0

        await eventually(is_empty)
        assert await store.dead() == 1
        (status,) = await store.status("bad")
        assert (status.state, status.handler) == (State.DEAD, None)
        assert status.error == "InvalidMessageError: a header cannot be encoded"
        assert caplog.text.count("message bad can never be published and is set aside") == 1
        broker.on_write = None
        async with store.transaction() as transaction:
            await transaction.execute(
                text("UPDATE mqkit_outbox SET shard = -1 - shard WHERE shard < 0")
            )
        await eventually(lambda: broker.confirmed == ["a", "b", "c", "bad"])


async def test_what_no_driver_can_write_is_set_aside_after_some_attempts(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been something else for once; a refusal of the broker never is the end."""
    monkeypatch.setattr("mqkit.store.outbox.retry_wait", lambda _: 0.0)
    broker = FakeBroker()

    async def refuse(message: Message) -> None:
        if message.properties.message_id == "odd":
            raise TypeError("raw")
        if message.properties.message_id == "full":
            raise refusal(NackedError, "full")

    broker.on_write = refuse
    async with Store(database, sweep=0.01) as store:
        await publish(store, "odd", "after", key="k")
        await publish(store, "full", "behind", key="l")
        store.start(broker.send)
        await eventually(lambda: broker.confirmed == ["after"])
        assert (await store.status("odd"))[0].attempt == ODD_ATTEMPTS

        async def are_the_rest() -> bool:  # a row goes after its message is confirmed
            return (await store.dead(), await store.pending()) == (1, 2)

        await eventually(are_the_rest)
    assert "message odd can never be published" in caplog.text


async def test_an_unexpected_failure_of_one_message_stops_no_other(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is held like a refused one, and logged with its traceback."""
    broker = fail("bad", error=lambda: LookupError("a bug"))
    async with Store(database) as store:
        await publish(store, "bad", key="a")
        await publish(store, "good", key="b")
        store.start(broker.send)
        await eventually(lambda: broker.confirmed == ["good"])
        await eventually(lambda: "message bad was refused 1 times" in caplog.text)
        assert await store.pending() == 1
    assert any(record.exc_text for record in caplog.records)


async def test_a_row_that_cannot_be_read_stops_no_other(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A later version may have written it: it is held, and the rest published."""
    broker = FakeBroker()
    async with Store(database) as store:
        await publish(store, "bad", key="a")
        async with store.transaction() as transaction:
            await transaction.execute(update(table).values(properties="{"))
        await publish(store, "good", key="b")
        store.start(broker.send)
        await eventually(lambda: broker.confirmed == ["good"])
        await eventually(lambda: "message bad was refused 1 times" in caplog.text)


async def test_a_failure_of_the_relay_itself_is_logged_and_it_goes_on(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody expected comes with its traceback; an unavailable database without."""
    monkeypatch.setattr("mqkit.store.relay.random.uniform", lambda *_: 0.01)
    failures: list[Exception] = [StoreUnavailableError("database away"), LookupError("a bug")]
    waiting = Outbox.waiting

    async def fail_first(self: Outbox) -> object:
        if failures:
            raise failures.pop(0)
        return await waiting(self)

    monkeypatch.setattr(Outbox, "waiting", fail_first)
    broker = FakeBroker()
    async with Store(database) as store:
        store.start(broker.send)
        await publish(store, "m")
        await eventually(lambda: broker.confirmed == ["m"])
    records = [r for r in caplog.records if "nothing is published" in r.getMessage()]
    assert [bool(record.exc_text) for record in records] == [False, True]


async def test_stopping_confirms_and_marks_what_is_being_published(database: str) -> None:
    """What was written is awaited and taken out; what was not is left where it is."""
    broker, written, go_on = FakeBroker(), asyncio.Event(), asyncio.Event()

    async def wait(_: Message) -> None:
        written.set()
        await go_on.wait()

    broker.on_write = wait
    async with Store(database) as store:
        store.start(broker.send)
        await publish(store, "a1", "a2", key="a")
        await written.wait()
        stopping = asyncio.create_task(store.stop())
        done, _ = await asyncio.wait([stopping], timeout=0.1)
        assert not done
        go_on.set()
        await stopping
        assert broker.confirmed == ["a1"]
        assert await store.pending() == 1


async def test_a_relay_that_hangs_does_not_keep_the_store_from_closing(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After its time it is cancelled; its message is there for the next one."""
    monkeypatch.setattr("mqkit.store.store.STOP_TIMEOUT", 0.05)
    broker, written = FakeBroker(), asyncio.Event()

    async def hang(_: Message) -> None:
        written.set()
        await asyncio.Event().wait()

    broker.on_write = hang
    async with Store(database) as store:
        store.start(broker.send)
        await publish(store, "m")
        await written.wait()
        async with asyncio.timeout(10):
            await store.stop()
        assert await store.pending() == 1
    assert "did not end its round" in caplog.text


async def test_a_round_ends_after_its_time(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long chain of one key is left to later rounds, which keep its order."""
    monkeypatch.setattr(relay_module, "ROUND_TIME", 0.05)
    broker = FakeBroker()

    async def slowly(_: Message) -> None:
        await asyncio.sleep(0.02)

    broker.on_write = slowly
    ids = [f"m{i:02}" for i in range(20)]
    async with Store(database, relay=False) as store, opened(database) as db:
        await publish(store, *ids, key="a")
        relay = make(db, broker)
        await relay.round(range(64))
        assert 0 < len(broker.written) < 10
        async with relaying(relay):
            await eventually(lambda: len(broker.written) == 20)
    assert broker.written == ids


async def test_while_a_round_waits_for_its_confirms_another_goes_on(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that hangs keeps no other shards waiting."""
    broker, go_on = FakeBroker(), asyncio.Event()
    hung = key_hash("m0") % Postgres.shards

    def hung_first(shards: list[int]) -> None:
        shards.sort(key=lambda shard: shard == hung)  # taken from the end

    async def hang(message: Message) -> None:
        if message.properties.message_id == "m0":
            await go_on.wait()

    monkeypatch.setattr("mqkit.store.relay.random.shuffle", hung_first)
    broker.on_write = hang
    async with Store(postgres_database, relay=False) as store, opened(postgres_database) as db:
        await publish(store, *(f"m{i}" for i in range(100)))
        async with relaying(make(db, broker)):
            try:
                await eventually(lambda: len(broker.confirmed) == 99)
            finally:
                go_on.set()
            await eventually(lambda: len(broker.confirmed) == 100)


async def test_where_a_round_fails_no_other_one_begins(postgres_database: str) -> None:
    """The one beside it ends before the error is told."""
    rounds: list[str] = []

    class Failing(Relay):
        async def round(self, shards: Sequence[int]) -> bool:
            is_first = not rounds
            rounds.append("begins")
            await asyncio.sleep(0)
            if is_first:
                raise refusal(ConnectionLostError, "away")
            await asyncio.sleep(0.01)
            rounds.append("ends")
            return True

    async with Store(postgres_database, relay=False) as store, opened(postgres_database) as db:
        await publish(store, *(f"m{i}" for i in range(200)))
        broker = FakeBroker()
        relay = Failing(Outbox(db), broker.send, clock=Jumping(), purge=nothing_to_purge)
        with pytest.raises(ConnectionLostError):
            await relay._sweep_once()
    assert rounds == ["begins", "begins", "ends"]


async def test_where_the_broker_is_away_no_other_message_is_begun(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait as long in vain, and the round with it."""
    monkeypatch.setattr(relay_module, "AT_ONCE", 2)
    broker, attempts = FakeBroker(), 0

    async def refuse(_: Message) -> None:
        nonlocal attempts
        attempts += 1
        raise refusal(PublishTimeoutError, "slow")

    broker.on_write = refuse
    async with Store(sqlite_database, relay=False) as store, opened(sqlite_database) as db:
        await publish(store, *(f"m{i}" for i in range(10)))
        with pytest.raises(PublishTimeoutError):
            await make(db, broker).round([0])
    assert attempts == 2


async def test_few_are_taken_at_a_time_where_they_are_large(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the size of those of the round before; small ones are taken by the thousand."""
    monkeypatch.setattr(relay_module, "BATCH_BYTES", 10 * len(b"body"))
    broker, limits = FakeBroker(), list[int]()

    class Noting(Outbox):
        def claim(self, shards: Any, limit: int, now: Any) -> Any:
            limits.append(limit)
            return super().claim(shards, limit, now)

    async with Store(sqlite_database, relay=False) as store, opened(sqlite_database) as db:
        await publish(store, *(f"m{i}" for i in range(520)))
        relay = Relay(Noting(db), broker.send, clock=Jumping(), purge=nothing_to_purge)
        while await relay.round([0]):
            pass
        assert limits == [500, 10, 10, 10]
        monkeypatch.setattr(relay_module, "BATCH_BYTES", 10**9)
        await publish(store, "more")
        while await relay.round([0]):
            pass
    assert limits[4:] == [10, 2000]
    assert len(broker.confirmed) == 521


async def test_the_longest_chains_of_a_round_are_begun_first(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round ends with its last confirm, of which a key's come one after the other."""
    monkeypatch.setattr(relay_module, "AT_ONCE", 1)
    broker = FakeBroker()
    async with Store(sqlite_database, relay=False) as store, opened(sqlite_database) as db:
        await publish(store, "free")
        await publish(store, "a1", key="a")
        await publish(store, "b1", "b2", key="b")
        await make(db, broker).round([0])
    assert broker.written == ["b1", "b2", "a1", "free"]


async def test_a_batch_is_followed_by_the_next(database: str) -> None:
    """A backlog is published without a pause between rounds, within a key in order."""
    broker = FakeBroker()
    ids = [f"m{i:03}" for i in range(100)]
    async with Store(database, relay=False) as store, opened(database) as db:
        await publish(store, *ids, key="a")
        async with relaying(make(db, broker, batch=7)):
            await eventually(lambda: len(broker.confirmed) == 100)
    assert broker.written == ids


async def test_where_much_comes_a_sweep_lets_more_come(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins a while after the one before it; after one that published little, at once."""
    monkeypatch.setattr(relay_module, "MUCH", 3)
    monkeypatch.setattr(relay_module, "TOGETHER", 0.2)
    broker, waits, now = FakeBroker(), [], asyncio.get_running_loop().time
    let_more_come = Relay._let_more_come

    async def noted(self: Relay, began: float) -> None:
        await let_more_come(self, began)
        waits.append(now() - began)

    monkeypatch.setattr(Relay, "_let_more_come", noted)
    async with Store(database) as store:
        store.start(broker.send)
        await publish(store, "few")
        await eventually(lambda: len(broker.confirmed) == 1)
        assert waits == []
        await publish(store, "a", "b", "c")
        await eventually(lambda: len(waits) == 1)
        await publish(store, "later")
        await eventually(lambda: len(broker.confirmed) == 5)
        await store.stop()
    assert len(waits) == 1
    assert waits[0] > 0.19


async def test_old_rows_are_purged_a_batch_at_a_time_beside_the_publishing(database: str) -> None:
    """A backlog of old rows holds up no message."""
    broker, left = FakeBroker(), 1_000_000

    async def purge() -> int:
        nonlocal left
        left -= 10
        await asyncio.sleep(0.001)
        return 10

    async with Store(database, relay=False) as store, opened(database) as db:
        relay = Relay(Outbox(db), broker.send, clock=Jumping(), purge=purge)
        async with relaying(relay):
            await eventually(lambda: left < 999_950)
            await publish(store, "m")
            await eventually(lambda: broker.confirmed == ["m"])


async def test_relays_side_by_side_publish_each_message_once(postgres_database: str) -> None:
    """Three of them, and a backlog with and without keys."""
    brokers = [FakeBroker() for _ in range(3)]
    async with Store(postgres_database, relay=False) as store, opened(postgres_database) as db:
        ids = [f"m{i}" for i in range(600)]
        for i in range(0, 600, 20):
            await publish(store, *ids[i : i + 20], key=f"k{i % 7}" if i % 40 else None)
        async with contextlib.AsyncExitStack() as stack:
            for broker in brokers:
                await stack.enter_async_context(relaying(make(db, broker, sweep=0.02, batch=20)))
            await eventually(lambda: sum(len(b.confirmed) for b in brokers) >= 600)
    assert sorted(i for b in brokers for i in b.written) == sorted(ids)


async def test_on_sqlite_a_second_relay_stands_by_until_the_first_ends(
    sqlite_database: str,
) -> None:
    """Then it takes over."""
    first, second = FakeBroker(), FakeBroker()
    async with Store(sqlite_database, sweep=0.02) as a, Store(sqlite_database, sweep=0.02) as b:
        a.start(first.send)
        await publish(a, "m1")
        await eventually(lambda: first.confirmed == ["m1"])
        b.start(second.send)
        for i in range(10):
            await publish(b, f"n{i}")
        await eventually(lambda: len(first.confirmed) == 11)
        assert second.written == []
        await a.stop()
        await publish(b, "m2")
        await eventually(lambda: second.confirmed == ["m2"])


HOLDER = """
import asyncio, sys
from mqkit.store import Store

async def main():
    async def send(message, *, timeout=None, declare=None):
        print("relaying", flush=True)
        await asyncio.Event().wait()
    async with Store(sys.argv[1]) as store:
        await store.start(send)

asyncio.run(main())
"""


def holder(url: str) -> subprocess.Popen[str]:
    """A process whose relay has claimed what there is, and waits for a confirm for ever."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_relay_takes_over_when_another_s_process_is_killed(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Whatever it had claimed is published by the other, soon after the SIGKILL."""
    url: str = request.getfixturevalue(f"{kind}_database")
    broker = FakeBroker()
    async with Store(url, sweep=0.05) as store:
        await publish(store, "m", key="a")
        process = holder(url)
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "relaying\n"
            store.start(broker.send)
            async with store._open().database.dialect.relaying() as mine:
                assert mine is (kind == "postgres")
            if kind == "postgres":
                assert await claimed(Outbox(store._open().database), NOW) == []
            assert broker.written == []
            process.send_signal(signal.SIGKILL)
            await eventually(lambda: broker.confirmed == ["m"])
        finally:
            process.kill()
            process.communicate()


async def test_the_relay_s_task_ends_by_stop_and_can_be_started_again(database: str) -> None:
    """A second start while it runs starts nothing."""
    broker = FakeBroker()
    async with Store(database) as store:
        task = store.start(broker.send)
        assert task is not None
        assert store.start(broker.send) is None  # it has one
        await store.stop()
        assert task.done()
        assert task.exception() is None
        again = store.start(broker.send)
        assert again is not None
