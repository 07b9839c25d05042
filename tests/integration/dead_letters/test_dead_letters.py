"""Dead letters of a queue, from Python, on each broker."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from mqkit import BrokerUrl, Delivery, Exchange, Outgoing, Queue, Reject, Retry, Runtime, Service
from mqkit.dead_letters import (
    EVERYTHING,
    DeadLetterNotFoundError,
    DeadLetters,
    DeadLettersInUseError,
    Filter,
    NotADeadLetterQueueError,
    Pace,
    holding,
    queues,
    reader,
    replaying,
)
from mqkit.dead_letters.queues import Names
from mqkit.errors import BrokerError, InvalidMessageError, NackedError
from mqkit.message import Message, Properties
from mqkit.store import Store, Transaction
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.proxy import TcpProxy
from tests.integration.dead_letters.support import SECRETS, declare, failed, fill
from tests.support import Client, connected, eventually

QUICK = Pace(rate=10_000, watch=0.2)


class Order(BaseModel):
    """What comes."""

    n: int


def bodies(count: int) -> list[bytes]:
    """Bodies that are numbered."""
    return [b'{"n": %d}' % number for number in range(count)]


async def ids(client: Client, queue: str) -> list[str | None]:
    """Take all messages out of a queue, and return their ids."""
    return [each.properties.message_id for each in await client.take_all(queue)]


async def test_listing_takes_nothing_out_and_keeps_the_order(broker: Broker, name: str) -> None:
    """Listed more often than the broker's own delivery limit allows, all are there as they were."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(30))
        async with DeadLetters(broker.url, name, who="ann") as letters:
            for _ in range(25):
                assert [each.count for each in await letters.groups()] == [6] * 5
            groups = await letters.groups()
            of_one = await letters.groups(Filter(groups=frozenset({groups[0].group})))
            assert [each.count for each in of_one] == [6]
            listed = await letters.letters(limit=7)
        assert [each.message_id for each in listed] == [f"m-{n}" for n in range(7)]
        assert await ids(client, f"{name}.dead") == [f"m-{n}" for n in range(30)]


async def test_two_who_list_at_once_wait_for_each_other(broker: Broker, name: str) -> None:
    """Both see all of it; and whoever waits for too long is told why."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(200))
        async with (
            DeadLetters(broker.url, name, who="ann") as first,
            DeadLetters(broker.url, f"{name}.dead", who="bob") as second,
        ):
            counts = await asyncio.gather(*(each.groups() for each in (first, second, first)))
            assert [sum(each.count for each in groups) for groups in counts] == [200] * 3


async def test_two_tasks_of_one_connection_wait_for_each_other(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's lock is a connection's; and who waits for too long is told that it is itself."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(200))
        async with DeadLetters(broker.url, name, who="ann") as letters:
            counts = await asyncio.gather(*(letters.groups() for _ in range(5)))
            assert [sum(each.count for each in groups) for groups in counts] == [200] * 5
            monkeypatch.setattr(queues, "LOCK_WAIT", 0.0)
            with pytest.raises(DeadLettersInUseError, match="in another task"):
                await asyncio.gather(*(letters.groups() for _ in range(5)))


async def test_a_handled_dead_letter_queue_is_refused(broker: Broker, name: str) -> None:
    """Whoever reads beside a consumer would see a part; the error says what to stop."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(1))
        async with client.channel() as channel:
            await channel.consume(f"{name}.dead", lambda _: None, lambda: None)
            async with DeadLetters(broker.url, name, who="ann") as letters:
                with pytest.raises(DeadLettersInUseError, match="1 consumer"):
                    await letters.groups()


async def test_what_is_no_dead_letter_queue_is_refused(broker: Broker, name: str) -> None:
    """A queue that is not there, or whose limit reading would use up, is named with the reason."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.dead")  # with the broker's own limit of 20
        async with DeadLetters(broker.url, name, who="ann") as letters:
            with pytest.raises(NotADeadLetterQueueError, match="x-delivery-limit is"):
                await letters.groups()
        async with DeadLetters(broker.url, f"{name}.other", who="ann") as letters:
            with pytest.raises(NotADeadLetterQueueError, match=f"no queue {name}.other.dead"):
                await letters.groups()


async def test_a_replay_of_a_group_is_handled_as_at_first(broker: Broker, name: str) -> None:
    """It comes from where it was first published, at its first attempt, and counts its replays."""
    came: list[Delivery] = []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(name))
    async def take(order: Order, delivery: Delivery) -> None:
        came.append(delivery)

    async with connected(broker.url) as client:
        await fill(client, name, bodies(20))
        async with (
            DeadLetters(broker.url, name, who="ann") as letters,
            Runtime(service, BrokerUrl.parse(broker.url)),
        ):
            groups = await letters.groups()
            chosen = Filter(groups=frozenset({groups[0].group, groups[1].group}))
            done = await letters.replay(chosen, why="a test", pace=QUICK)
            assert (done.replayed, done.came_back, done.left, done.stopped) == (8, 0, 12, None)
            await eventually(lambda: len(came) == 8)
            assert sum(each.count for each in await letters.groups()) == 12
            entries = await letters.audit()
    assert {(each.exchange, each.routing_key, each.attempt) for each in came} == {
        ("events", "order.paid", 1)
    }
    assert {each.headers["mqkit-replays"] for each in came} == {1}
    assert [each.stage for each in entries] == ["began", "moves", "ended"]
    assert {(each.who, each.what, each.why) for each in entries} == {("ann", "replay", "a test")}


async def test_a_replay_into_a_handler_that_still_fails_stops(broker: Broker, name: str) -> None:
    """It stops at the share; what failed again says so, and what is left was not touched."""
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(name))
    async def take(order: Order) -> None:
        raise Reject("not yet")

    async with connected(broker.url) as client:
        await fill(client, name, bodies(300))
        async with (
            DeadLetters(broker.url, name, who="ann") as letters,
            Runtime(service, BrokerUrl.parse(broker.url)),
        ):
            done = await letters.replay(why="a test", pace=Pace(rate=50, stop_at=0.5))
            assert done.stopped is not None
            assert 10 <= done.replayed < 60
            assert done.left == 300 - done.replayed
            await eventually(lambda: _count(client, name, 300))
            again = [each for each in await letters.letters() if each.replays]
    assert {each.replay for each in again} == {done.run}
    assert len(again) == done.replayed
    assert all(len(each.history) == 1 and each.reason == "rejected" for each in again)


async def _count(client: Client, name: str, count: int) -> bool:
    return await client.messages(f"{name}.dead") == count


async def test_a_replay_into_no_queue_is_refused(broker: Broker, name: str) -> None:
    """Where the queue that they came from is gone, nothing is published to nowhere."""
    async with connected(broker.url) as client:
        await fill(client, f"{name}.a", bodies(3))
        async with client.channel() as channel:
            arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}
            await channel.declare_queue(f"{name}.b.dead", arguments=arguments)
        async with DeadLetters(broker.url, f"{name}.b", who="ann") as letters:
            with pytest.raises(NotADeadLetterQueueError, match="start its service"):
                await letters.replay(why="a test")


async def test_a_replay_keeps_the_order_of_a_key(broker: Broker, name: str) -> None:
    """Through the partitions of an ordered handler, each key's messages are handled in theirs."""
    handled: dict[int, list[int]] = {}
    keys, each = 7, 30
    service = Service(name, retry=Retry.never())
    is_broken = True

    @service.handler(Queue(name, partitions=3), order_by=lambda order: order.n % keys)
    async def take(order: Order) -> None:
        if is_broken:
            raise Reject("not yet")
        handled.setdefault(order.n % keys, []).append(order.n)

    exchange = Exchange(f"{name}.events")
    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
        DeadLetters(broker.url, name, who="ann") as letters,
    ):
        async with client.channel() as channel:
            await channel.declare_exchange(exchange.name, "topic")
            await channel.bind_queue(name, exchange.name, "#")
        messages = (Outgoing(exchange, "k", {"n": n}) for n in range(keys * each))
        async for result in client.publisher.publish_many(messages):
            assert result.error is None
        await eventually(lambda: _count(client, name, keys * each), 60)
        is_broken = False
        done = await letters.replay(why="a test", pace=QUICK)
        assert (done.replayed, done.left) == (keys * each, 0)
        await eventually(lambda: sum(map(len, handled.values())) == keys * each, 60)
    assert handled == {key: [*range(key, keys * each, keys)] for key in range(keys)}


async def test_the_archive_gives_back_what_it_was_given(broker: Broker, name: str) -> None:
    """Archived messages are no dead letters any more, and restored ones are the same again."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(10))
        async with DeadLetters(broker.url, name, who="ann") as letters:
            before = {each.ref: each for each in await letters.letters(has_body=True)}
            meant = Filter(ids=frozenset({"m-2", "m-3"}))
            done = await letters.archive(meant, why="a test")
            assert (done.moved, done.left) == (2, 8)
            assert [each.message_id for each in await letters.letters(archived=True)] == [
                "m-2", "m-3",
            ]  # fmt: skip
            done = await letters.restore(EVERYTHING, why="a test")
            assert (done.moved, done.left) == (2, 0)
            after = {each.ref: each for each in await letters.letters(has_body=True)}
        assert set(after) == set(before)
        for ref, each in after.items():
            assert each.body == before[ref].body
            assert each.error_type == before[ref].error_type
        assert (await ids(client, f"{name}.dead"))[-2:] == ["m-2", "m-3"]


async def test_a_drop_is_named_in_the_audit(broker: Broker, name: str) -> None:
    """What was dropped is gone for good, and the account has its id."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(120))
        async with DeadLetters(broker.url, name, who="ann") as letters:
            done = await letters.drop(Filter(ids=frozenset({"m-5"})), why="spam")
            assert (done.moved, done.left) == (1, 119)
            done = await letters.drop(EVERYTHING, why="spam")
            assert (done.moved, done.left) == (119, 0)
            entries = await letters.audit()
        assert await client.messages(f"{name}.dead") == 0
    named = [
        message["id"]
        for entry in entries
        if entry.stage == "moves"
        for message in entry.details["messages"]
    ]
    assert sorted(named) == sorted(f"m-{n}" for n in range(120))


async def test_an_edited_copy_takes_the_place_of_its_original(broker: Broker, name: str) -> None:
    """The copy is replayed under an id of its own, and the original is in the archive."""
    came: list[tuple[str | None, int, object]] = []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(name))
    async def take(order: Order, delivery: Delivery) -> None:
        came.append((delivery.message_id, order.n, delivery.headers.get("mqkit-edited-from")))

    async with connected(broker.url) as client:
        await fill(client, name, [b'{"n": "x"}', b'{"n": "y"}'])
        async with DeadLetters(broker.url, name, who="ann") as letters:
            with pytest.raises(InvalidMessageError, match="valid integer"):
                await letters.edit("m-0", b'{"n": "z"}', why="a test", service=service)
            with pytest.raises(DeadLetterNotFoundError, match="no message m-7"):
                await letters.edit("m-7", b"{}", why="a test")
            done = await letters.edit("m-0", b'{"n": 5}', why="a test", service=service)
            assert [each.message_id for each in await letters.letters(archived=True)] == ["m-0"]
            found = await letters.rehearse(service=service)
            assert (found.meant, found.valid) == (2, 1)
            assert found.problems[0].message_id == "m-1"
            async with Runtime(service, BrokerUrl.parse(broker.url)):
                await letters.replay(Filter(ids=frozenset({done.message_id or ""})), why="a test")
                await eventually(lambda: len(came) == 1)
    assert came == [(done.message_id, 5, "m-0")]


async def test_an_interrupted_edit_makes_no_second_copy(broker: Broker, name: str) -> None:
    """The copy of an edit that died before it took out the original is found and kept."""
    async with connected(broker.url) as client:
        await fill(client, name, [b"0", b"1"])
        async with DeadLetters(broker.url, name, who="ann") as letters:
            before = await letters.letters(Filter(ids=frozenset({"m-0"})), has_body=True)
            done = await letters.edit("m-0", b"5", why="a test")
            original = Message("", f"{name}.dead", b"0", before[0].properties)
            await client.publisher.send(original)  # as if its ack had never come
            again = await letters.edit("m-0", b"5", why="a test")
            assert again.message_id == done.message_id
            listed = [each.message_id for each in await letters.letters()]
        assert listed == ["m-1", done.message_id]


async def test_equal_and_missing_ids_are_told_apart_by_their_refs(
    broker: Broker, name: str
) -> None:
    """One of two messages of one id, or one without an id, is meant by its ref."""
    async with connected(broker.url) as client:
        await declare(client, Queue(name))
        for body, message_id in ((b"a", "same"), (b"b", "same"), (b"c", None)):
            properties = Properties(message_id=message_id)
            await client.publisher.send(Message("", f"{name}.dead", body, properties))
        async with DeadLetters(broker.url, name, who="ann") as letters:
            with pytest.raises(DeadLetterNotFoundError, match="2 messages same: name one"):
                await letters.edit("same", b"x", why="a test")
            first, second, third = await letters.letters(has_body=True)
            assert len({first.ref, second.ref, third.ref}) == 3
            await letters.edit(second.ref, b"x", why="a test")
            done = await letters.drop(Filter(ids=frozenset({third.ref})), why="a test")
            assert (done.moved, done.left) == (1, 2)
            (kept, edited) = await letters.letters(has_body=True)
    assert (kept.body, edited.body, edited.edited_from) == (b"a", b"x", "same")


async def test_a_rehearsal_knows_what_the_inbox_would_skip(
    mqkit_broker: Broker, name: str, database: str
) -> None:
    """Before anything is replayed it says which were handled, and which do not validate."""
    broker, store = mqkit_broker, Store(database)
    service = Service(name, retry=Retry.never(), store=store)

    @service.handler(Queue(name))
    async def take(order: Order, transaction: Transaction) -> None:
        await transaction.execute(text("SELECT 1"))

    async with connected(broker.url) as client:
        await fill(client, name, [*bodies(4), b"no json"])
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            for message_id in ("m-1", "m-2"):
                await client.publisher.publish("", name, {"n": 1}, message_id=message_id)
            await eventually(lambda: _handled(store, "m-2"))
        async with DeadLetters(broker.url, name, who="ann") as letters, store:
            found = await letters.rehearse(service=service, inbox=store)
            assert (found.meant, found.valid, found.handled) == (5, 4, 2)
            assert sum(each.count for each in await letters.groups()) == 5


async def _handled(store: Store, message_id: str) -> bool:
    return bool(await store.status(message_id))


async def test_no_listing_has_a_secret(broker: Broker, name: str) -> None:
    """A card number, a password and a token of bodies and errors are in no list, view or audit."""
    card, password, token = SECRETS
    body = json.dumps({"card": card, "password": password, "x": f"token {token}"}).encode()
    async with connected(broker.url) as client:
        await fill(client, name, [body] * 5, secret=f"card {card} password={password} {token}")
        forged = failed(0, name)
        forged.properties.headers["mqkit-error-message"] = f"{card} {token} password={password}"  # type: ignore[index]
        await client.publisher.send(forged)
        async with DeadLetters(broker.url, name, who="ann") as letters:
            found = await letters.letters(has_body=True)
            told = [[letters.summary(each), letters.detail(each)] for each in found]
            await letters.archive(Filter(ids=frozenset({"m-0"})), why=f"has {card} and {token}")
            entries = await letters.audit()
    shown = json.dumps([told, [(each.why, each.details) for each in entries]])
    assert not [each for each in SECRETS if each in shown]


@pytest.mark.parametrize("limit", ["HOLD", "MOST_HELD", "PREFETCH"])
async def test_a_replay_in_parts_is_the_same(
    broker: Broker, name: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back and read again on the way, or by several consumers, it keeps order and watch."""
    if limit == "HOLD":
        monkeypatch.setattr(replaying, "HOLD", 0.1)
    if limit == "MOST_HELD":
        monkeypatch.setattr(holding, "MOST_HELD", 400)
    if limit == "PREFETCH":
        monkeypatch.setattr(reader, "PREFETCH", 35)
    numbers: list[int] = []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(name), concurrency=1)
    async def take(order: Order) -> None:
        numbers.append(order.n)
        if order.n % 20 == 0:
            raise Reject("not yet")

    async with connected(broker.url) as client:
        await fill(client, name, bodies(100))
        async with (
            DeadLetters(broker.url, name, who="ann") as letters,
            Runtime(service, BrokerUrl.parse(broker.url)),
        ):
            meant = Filter(headers={"mqkit-error-type": "ZeroDivisionError"})
            others = await letters.archive(meant, why="not these")
            assert (others.moved, others.left) == (20, 80)
            done = await letters.replay(why="a test", pace=Pace(rate=200, stop_at=0.3, watch=1))
            assert (done.replayed, done.came_back, done.left) == (80, 5, 0), done
            left = [each.message_id for each in await letters.letters()]
            assert sorted(left, key=str) == sorted(f"m-{n}" for n in range(0, 100, 20))
    assert numbers == [n for n in range(100) if n % 5 != 3]


async def test_a_classic_dead_letter_queue_is_one_as_well(broker: Broker, name: str) -> None:
    """What a classic queue's handler fails at is listed, archived and replayed alike."""
    async with connected(broker.url) as client:
        await declare(client, Queue(name, type="classic"))
        await fill(client, name, bodies(5), declared=True)
        async with DeadLetters(broker.url, name, who="ann") as letters:
            await letters.archive(Filter(ids=frozenset({"m-3"})), why="a test")
            await letters.replay(why="a test", pace=QUICK)
            await letters.restore(EVERYTHING, why="a test")
            assert [each.message_id for each in await letters.letters()] == ["m-3"]
        assert await ids(client, name) == ["m-0", "m-1", "m-2", "m-4"]


async def test_what_the_broker_refuses_stays_a_dead_letter(broker: Broker, name: str) -> None:
    """A message that its full queue does not take is where it was, and so are those after it."""
    async with connected(broker.url) as client:
        full = Queue(name, arguments={"x-max-length": 5})
        await declare(client, full)
        await fill(client, name, bodies(100), declared=True)
        async with DeadLetters(broker.url, name, who="ann") as letters:
            with pytest.raises(NackedError):
                await letters.replay(why="a test", pace=QUICK)
            left = [each.message_id for each in await letters.letters()]
            entries = await letters.audit()
        came = await ids(client, name)
    assert 0 < len(came) < 100
    assert [*came, *left] == [f"m-{n}" for n in range(100)]
    assert entries[-1].stage == "failed"
    assert entries[-1].details["error"] == "mqkit.errors.NackedError"


async def test_the_lock_is_waited_for_and_then_named(mqkit_broker: Broker, name: str) -> None:
    """Whoever waits in vain is told which queue says that somebody is at work."""
    names = Names.of(name)
    async with connected(mqkit_broker.url) as first, connected(mqkit_broker.url) as second:
        held = await queues.lock(first.connection, names)
        with pytest.raises(DeadLettersInUseError, match=f"{name}.dead.lock is another"):
            await queues.lock(second.connection, names, wait=0.3)
        await held.close()
        await (await queues.lock(second.connection, names)).close()


async def test_a_lost_connection_ends_a_replay_and_loses_nothing(broker: Broker, name: str) -> None:
    """What was replayed is in its queue, the rest is where it was, and the next run goes on."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(100))
        async with (
            TcpProxy(broker.url) as proxy,
            DeadLetters(proxy.url, name, who="ann") as letters,
        ):
            replay = asyncio.create_task(letters.replay(why="a test", pace=Pace(rate=100)))
            await eventually(lambda: _ready(client, name, 20))
            proxy.cut()
            with pytest.raises(BrokerError):
                await replay
        async with DeadLetters(broker.url, name, who="ann") as letters:
            done = await letters.replay(why="again", pace=QUICK)
            stages = [each.stage for each in await letters.audit()]
        came = await ids(client, name)
    assert done.left == 0
    assert list(dict.fromkeys(came)) == [f"m-{n}" for n in range(100)]
    assert len(came) <= 101
    assert stages[0] == "began"
    assert stages[-1] == "ended"


async def _ready(client: Client, queue: str, count: int) -> bool:
    return await client.messages(queue) >= count


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_ten_thousand_are_listed_in_groups(broker: Broker, name: str) -> None:
    """Ten thousand dead letters of five kinds are five groups, each of two thousand."""
    async with connected(broker.url) as client:
        await fill(client, name, bodies(10_000))
        async with DeadLetters(broker.url, name, who="ann") as letters:
            for _ in range(3):
                groups = await letters.groups()
                assert [each.count for each in groups] == [2_000] * 5
