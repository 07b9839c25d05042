"""Replays of dead letters whose process is killed on the way."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from mqkit import BrokerUrl, Queue, Retry, Runtime, Service
from mqkit.dead_letters import EVERYTHING, DeadLetters, Filter
from mqkit.errors import ChannelClosedError
from mqkit.outcome import Ack
from mqkit.store import Store, Transaction
from mqkit.testing.brokers.broker import Broker
from tests.forked import Command
from tests.integration.dead_letters.support import SECRETS, fill
from tests.support import Client, Telling, connected, eventually

KILLS = 2

TWICE = 2
"""Messages that one kill may leave in both queues: the one that was confirmed and whose ack was not
applied, and one whose ack the broker had not applied when it closed the channel."""


class Order(BaseModel):
    """What comes."""

    n: int


class Books:
    """A handler with an inbox, which writes a row for each message that it is run for."""

    def __init__(self, name: str, folder: Path) -> None:
        self.store = Store(f"sqlite:///{folder / 'db'}")
        self.service = Service(name, retry=Retry.never(), store=self.store)
        self.acked: Counter[str | None] = Counter()
        self.observer = Telling(settled=self._settled)
        self.service.handler(Queue(name), prefetch=100, concurrency=20)(self.take)

    async def take(self, order: Order, transaction: Transaction) -> None:
        """Write it down."""
        await transaction.execute(text("INSERT INTO taken VALUES (:n)"), {"n": order.n})

    def _settled(self, delivery: object, outcome: object) -> None:
        assert isinstance(outcome, Ack), outcome
        self.acked[delivery.message_id] += 1  # type: ignore[attr-defined]

    async def prepare(self) -> None:
        """Make the table."""
        async with self.store, self.store.transaction() as transaction:
            await transaction.execute(text("CREATE TABLE taken (n INTEGER)"))

    async def rows(self) -> list[int]:
        """Read what was written."""
        async with self.store.transaction() as transaction:
            return [row[0] for row in await transaction.execute(text("SELECT n FROM taken"))]


def replaying(url: str, name: str, *options: str, log: Path) -> Command:
    """`mqkit dead-letters replay`, in a process of its own."""
    with log.open("ab") as out:
        return Command(
            ["dead-letters", "replay", name, *options, "--why", "a test", "--json"],
            env={**os.environ, "MQKIT_URL": url},
            stdout=out,
            stderr=out,
        )


async def killed_twice(broker: Broker, name: str, folder: Path, count: int, rate: int) -> None:
    """Replay three of five groups, killed twice: each message has its effect once."""
    books = Books(name, folder)
    await books.prepare()
    log = folder / "log"
    async with connected(broker.url) as client:
        bodies = [b'{"n": %d, "card": "%s"}' % (n, SECRETS[0].encode()) for n in range(count)]
        await fill(client, name, bodies)
        async with DeadLetters(broker.url, name, who="ann") as letters:
            groups = [each.group for each in await letters.groups()][:3]
            meant = await letters.letters(Filter(groups=frozenset(groups)))
        options = [*(part for each in groups for part in ("--group", each)), "--rate", str(rate)]
        runtime = Runtime(books.service, BrokerUrl.parse(broker.url), observer=books.observer)
        async with runtime:
            for kill in range(1, KILLS + 1):
                process = replaying(broker.url, name, *options, log=log)
                enough = len(meant) * kill // (KILLS + 2)
                await eventually(lambda: len(books.acked) >= enough, 120)  # noqa: B023
                assert process.poll() is None, log.read_text()
                process.kill()
                process.wait()
            process = replaying(broker.url, name, *options, log=log)
            await eventually(lambda: process.poll() is not None, 240, "its end")
            assert process.returncode == 0, log.read_text()
            await eventually(lambda: len(books.acked) == len(meant), 60)
            await eventually(lambda: _is_empty(client, name), 60)
            rows = await books.rows()
        await _account(books, rows, {each.message_id for each in meant})
        assert await client.messages(f"{name}.dead") == count - len(meant)
    assert not [each for each in SECRETS if each in log.read_text()]
    assert json.loads(log.read_text())["stopped"] is None


async def _account(books: Books, rows: list[int], meant: set[str | None]) -> None:
    """None was lost, each was handled, and applied once; a few came twice to their queue."""
    assert sorted(rows) == sorted(int(str(each)[2:]) for each in meant)
    assert set(books.acked) == meant
    twice = books.acked.total() - len(meant)
    assert twice <= KILLS * TWICE, f"{twice} messages were in their queue twice"


async def _is_empty(client: Client, name: str) -> bool:
    return await client.messages(name) == 0


async def test_a_replay_that_is_killed_twice_loses_and_applies_nothing_twice(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Each message that was meant has its effect once, and the others stay dead letters."""
    await killed_twice(broker, name, tmp_path, 300, 150)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_replay_of_ten_thousand_is_killed_twice(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """The same with ten thousand dead letters, six thousand of which are replayed."""
    await killed_twice(broker, name, tmp_path, 10_000, 2_000)


async def test_a_listing_that_is_killed_keeps_the_order(
    rabbitmq: Broker, name: str, tmp_path: Path
) -> None:
    """RabbitMQ gives a killed reader's messages back as a whole, and so in their order.

    (The embedded broker hands out what the socket takes, and may not.)
    """
    count = 3_000
    async with connected(rabbitmq.url) as client:
        await fill(client, name, [b"1"] * count)
        async with DeadLetters(rabbitmq.url, name, who="ann") as letters:
            await letters.groups()  # so that all of them came back once
            for _ in range(2):
                process = Command(
                    ["dead-letters", "list", name], env={**os.environ, "MQKIT_URL": rabbitmq.url}
                )
                await eventually(lambda: _is_empty(client, f"{name}.dead"))
                process.kill()
                process.wait()
                await eventually(lambda: _has(client, f"{name}.dead", count))
            listed = [each.message_id for each in await letters.letters()]
    assert listed == [f"m-{n}" for n in range(count)]


async def _has(client: Client, queue: str, count: int) -> bool:
    return await client.messages(queue) == count


async def test_an_archiving_that_is_killed_loses_nothing(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Each message is in one queue or the other, and the next run moves the rest."""
    count = 400
    everything = [f"m-{n}" for n in range(count)]
    async with connected(broker.url) as client:
        await fill(client, name, [b"1"] * count)
        process = Command(
            ["dead-letters", "archive", name, "--all", "--why", "a test"],
            env={**os.environ, "MQKIT_URL": broker.url},
        )
        await eventually(lambda: _holds(client, f"{name}.dead.archive", 50))
        process.kill()
        process.wait()
        async with DeadLetters(broker.url, name, who="ann") as letters:
            there = await letters.letters()
            archived = await letters.letters(archived=True)
            assert {each.message_id for each in (*there, *archived)} == set(everything)
            assert len(there) + len(archived) <= count + TWICE
            await letters.archive(EVERYTHING, why="again")
            entries = await letters.audit()
        found = [
            each.properties.message_id for each in await client.take_all(f"{name}.dead.archive")
        ]
    assert set(found) == set(everything)
    assert len(found) <= count + TWICE
    runs: dict[str, list[str]] = {each.run: [] for each in entries}
    for each in entries:
        runs[each.run].append(each.stage)
    killed, again = runs.values()
    assert (killed[-1], again[-1]) == ("moves", "ended")


async def _holds(client: Client, queue: str, count: int) -> bool:
    try:
        return await client.messages(queue) >= count
    except ChannelClosedError:
        return False  # it is not declared yet
