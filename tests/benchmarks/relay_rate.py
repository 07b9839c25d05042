"""How fast a relay empties a full outbox, with the order within each key checked.

    python -m tests.benchmarks.relay_rate [--messages 50000] [--keys 1000] [--rounds 3]
        [--relays 1] [--body 100] [--sqlite] [--json PATH]

Each round commits the messages to the outbox of an empty database, starts a relay on them, as
`mqkit relay` does, and measures until the outbox is empty: seconds, and this process's processor
time. Only then are the messages consumed, each exactly once and in the order of their key, or the
run fails. The message of a key is written after the confirm of the one before it, so that few keys
are slow by the broker's latency, however fast all else is: `--keys 0` publishes without keys.

The broker is that of the tests (`MQKIT_TEST_URL`, or what is found), the PostgreSQL too
(`MQKIT_TEST_POSTGRES`); the queue is a quorum queue.

Exit codes: 0 done, 1 there is no broker or database, or a message was lost, twice or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from mqkit import BrokerUrl, Exchange, MqkitError, Publisher, Queue, Retry, Service, drivers
from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.cli.loop import runner, tune_collector
from mqkit.drivers.base import Incoming
from mqkit.store import Store
from mqkit.testing.brokers.finder import find_brokers, start
from tests.benchmarks.side_by_side.room import Room, own_vhost
from tests.benchmarks.stages import Used
from tests.postgres import find_postgres
from tests.postgres import start as start_postgres

AT_A_TIME = 500
"""Messages of one transaction that fills the outbox, and of one ack."""

POLL = 0.01
"""Seconds between two looks at what the relay has taken out."""

LONGEST = 600.0
"""Seconds after which a round has failed."""


class OrderError(MqkitError):
    """A message was lost, came twice, or came before an earlier one of its key."""


@dataclass(frozen=True)
class Job:
    """What is to be published in a round, and how."""

    messages: int
    keys: int
    body: int
    relays: int

    def key_of(self, number: int) -> str | None:
        """Keys take turns, as those of many customers do."""
        return f"key-{number % self.keys}" if self.keys else None

    def body_of(self, number: int) -> bytes:
        """The number, filled up."""
        return str(number).encode().ljust(self.body)


@dataclass(frozen=True)
class Round:
    """What one round took."""

    seconds: float
    processor: float
    """Seconds of this process's processor time: relay, driver and all."""
    kernel: float
    """How many of them the kernel took, for its sockets."""
    messages: int

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def microseconds(self) -> float:
        """Processor time of a message."""
        return self.processor / self.messages * 1e6

    @property
    def of_kernel(self) -> float:
        """What the kernel took of that."""
        return self.kernel / self.messages * 1e6


async def measure(job: Job, broker: str, queue: str, database: str) -> Round:
    """Fill an outbox, empty it, and check what came out."""
    url = BrokerUrl.parse(broker)
    exchange = Exchange(f"{queue}.exchange", type="topic")
    service = Service("relay_rate", retry=Retry.never())

    @service.handler(Queue(queue), bind=[exchange.key("#")])
    async def handle() -> None:
        """Declared only: what is consumed is consumed without a handler."""

    connection = Connection(url, name="relay_rate", driver=drivers.named(None))
    await connection.open(15)
    try:
        await declare(connection.channel, service.topology)
        async with Store(database, relay=False) as store:
            await _fill(store, job, exchange)
        measured = await _drain(job, url, database)
        await _check(job, connection, queue)
    finally:
        await connection.close()
    return measured


async def _fill(store: Store, job: Job, exchange: Exchange) -> None:
    for begin in range(0, job.messages, AT_A_TIME):
        async with store.transaction(app_id="benchmark") as transaction:
            for number in range(begin, min(begin + AT_A_TIME, job.messages)):
                await transaction.publish(
                    exchange, f"number.{number % 7}", job.body_of(number), key=job.key_of(number)
                )


async def _drain(job: Job, url: BrokerUrl, database: str) -> Round:
    gc.collect()
    tune_collector()
    async with contextlib.AsyncExitStack() as stack:
        stores = []
        for _ in range(job.relays):
            connection = Connection(url, name="relay_rate", driver=drivers.named(None))
            await connection.open(15)
            stack.push_async_callback(connection.close)
            publisher = Publisher.on(connection)
            stack.push_async_callback(publisher.close, timeout=0)
            store = await stack.enter_async_context(Store(database))
            stores.append((store, publisher))
        began, used = time.monotonic(), Used.so_far()
        for store, publisher in stores:
            store.start(publisher.send)
        relays = [relay for store, _ in stores if (relay := store._open().relay) is not None]
        async with asyncio.timeout(LONGEST):
            while sum(relay.published for relay in relays) < job.messages:
                await asyncio.sleep(POLL)
        seconds, took = time.monotonic() - began, Used.so_far() - used
        result = Round(seconds, took.all, took.kernel, job.messages)
        for store, _ in stores:
            await store.stop()
        if left := await stores[0][0].pending():
            raise OrderError(f"{left} messages are in the outbox after all were published")
    return result


async def _check(job: Job, connection: Connection, queue: str) -> None:
    """Consume all, and see that each key's are there once and in their order.

    :raises OrderError: they are not
    """
    numbers: list[int] = []
    done = asyncio.Event()
    channel = await connection.channel()

    def on_delivery(incoming: Incoming) -> None:
        numbers.append(int(incoming.body))
        if len(numbers) == job.messages:
            done.set()
        if not incoming.tag % AT_A_TIME or done.is_set():
            channel.ack(incoming.tag, multiple=True)

    await channel.qos(2 * AT_A_TIME)
    await channel.consume(queue, on_delivery, done.set)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            await done.wait()
    await channel.close()
    if sorted(numbers) != list(range(job.messages)):
        twice = len(numbers) - len(set(numbers))
        raise OrderError(f"{len(numbers)} of {job.messages} came, {twice} of them twice")
    of_key: dict[str | None, list[int]] = defaultdict(list)
    for number in numbers:
        of_key[job.key_of(number)].append(number)
    for key, mine in of_key.items():
        if key is not None and mine != sorted(mine):
            raise OrderError(f"{key}: its messages came in another order than they were committed")


@contextlib.contextmanager
def databases(*, sqlite: bool) -> Iterator[Iterator[str]]:
    """URLs of new databases, one after the other."""
    if sqlite:
        with tempfile.TemporaryDirectory() as folder:
            yield (f"sqlite:///{Path(folder) / secrets.token_hex(4)}.sqlite" for _ in iter(int, 1))
        return
    with start_postgres(find_postgres(os.environ)) as server:
        yield (server.create_database(f"relay_{secrets.token_hex(4)}") for _ in iter(int, 1))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each round and one of the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.relay_rate")
    parser.add_argument("--messages", type=int, default=50_000, help="of each round")
    parser.add_argument("--keys", type=int, default=1_000, help="0: without keys")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--relays", type=int, default=1, help="side by side, in this process")
    parser.add_argument("--body", type=int, default=100, help="bytes of a body")
    parser.add_argument("--sqlite", action="store_true", help="and not PostgreSQL")
    parser.add_argument("--json", type=Path, metavar="PATH")
    options = parser.parse_args(argv)
    job = Job(options.messages, options.keys, options.body, options.relays)
    rounds: list[Round] = []
    console = Console(highlight=False, soft_wrap=True)
    try:
        with (
            start(find_brokers(os.environ)[0]) as broker,
            own_vhost(broker) as url,
            databases(sqlite=options.sqlite) as urls,
        ):
            room = Room(broker, url)
            for _ in range(options.rounds):
                with room.queue("relay") as queue, runner(None) as on_loop:
                    each = on_loop.run(measure(job, url, queue, next(urls)))
                rounds.append(each)
                console.print(
                    f"{each.rate:,.0f} messages a second, {each.seconds:.2f} s; "
                    f"{each.microseconds:.1f} µs of processor time a message, "
                    f"{each.of_kernel:.1f} of them the kernel's"
                )
    except MqkitError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}")
        return 1
    rate = statistics.median(each.rate for each in rounds)
    used = statistics.median(each.microseconds for each in rounds)
    console.print(
        f"medians of {len(rounds)} rounds, {job.messages:,} messages of {job.body} bytes, "
        f"{job.keys:,} keys: {rate:,.0f} a second, {used:.1f} µs"
    )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in rounds]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
