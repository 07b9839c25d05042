"""Queues that are moved by a process that is killed on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqkit import BrokerUrl, Publisher, Queue, Runtime, Service
from mqkit.errors import TopologyError
from mqkit.testing.brokers.broker import Broker
from tests.forked import Command
from tests.integration.topology.support import api_of, applied, payments, service
from tests.integration.topology.test_moves import Load, in_order, pairs
from tests.support import eventually

SERVICES = "tests.integration.topology.services"
KILLS = 2


@contextlib.contextmanager
def vhost_of(broker: Broker, name: str) -> Iterator[str]:
    """Make a virtual host for the block."""
    url = broker.add_vhost(name)
    try:
        yield url
    finally:
        broker.delete_vhost(name)


class Applying:
    """`mqkit topology apply` in a process, which is killed twice before it may end."""

    def __init__(self, url: str, wanted: str, management: str | None, folder: Path) -> None:
        self._wanted = wanted
        self._log = folder / "apply.log"
        self._env = {**os.environ, "MQKIT_URL": url}
        self._env.pop("MQKIT_MANAGEMENT", None)
        if management is not None:
            self._env["MQKIT_MANAGEMENT"] = management

    def said(self) -> str:
        """Return what it has printed until now."""
        return self._log.read_text() if self._log.exists() else ""

    async def run(self, *, most: float) -> None:
        """Kill it twice, after `most` seconds at most each time, and then let it end."""
        for _ in range(KILLS):
            with self._started() as process:
                # Not before it has begun to do something, which may take seconds.
                before = self.said().count("\n")
                await eventually(
                    lambda before=before: self.said().count("\n") > before or process.poll() == 0,  # type: ignore[misc]
                    60.0,
                )
                await asyncio.sleep(random.uniform(0.0, most))
        with self._started() as process:
            await eventually(lambda: process.poll() is not None, 400.0, "the end of the move")
            assert process.returncode == 0, self.said()

    @contextlib.contextmanager
    def _started(self) -> Iterator[Command]:
        with self._log.open("ab") as out:
            process = Command(
                ["topology", "apply", f"{SERVICES}:{self._wanted}"],
                env=self._env,
                stdout=out,
                stderr=out,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def started_when_it_can(made: Service, url: str) -> AsyncIterator[None]:
    """Start a service for the block, again and again until the queues are as it declares them."""
    ending = asyncio.Event()

    async def run() -> None:
        while not ending.is_set():
            try:
                async with Runtime(made, BrokerUrl.parse(url), grace=10):
                    await ending.wait()
            except TopologyError:
                await asyncio.sleep(0.5)

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        ending.set()
        await running


async def test_a_move_that_is_killed_twice_loses_nothing(mqkit_vhost: str, tmp_path: Path) -> None:
    """Nor does anything come twice, while it is published to."""
    before, got = service(Queue("ledger.post", type="classic")), list[dict[str, Any]]()
    wanted = service(Queue("ledger.post"), got)
    assert await applied(mqkit_vhost, before) == []
    async with Load(mqkit_vhost, keys=4) as load:
        await eventually(lambda: len(load.sent) > 100)
        await Applying(mqkit_vhost, "wanted", None, tmp_path).run(most=1.5)
    async with Runtime(wanted, BrokerUrl.parse(mqkit_vhost)):
        await eventually(lambda: len(pairs(got)) == len(load.sent))
    assert Counter((each["key"], each["number"]) for each in got).most_common(1)[0][1] <= 1 + KILLS


class ManyMessages:
    """Publishes so many messages, and then some more until the end of the block."""

    def __init__(self) -> None:
        self.sent = 0

    async def publish(self, publisher: Publisher, count: int) -> None:
        """Publish so many at once."""
        first, self.sent = self.sent, self.sent + count
        await asyncio.gather(
            *(
                publisher.publish(payments, "order.x", {"n": number}, message_id=str(number))
                for number in range(first, first + count)
            )
        )

    async def trickle(self, publisher: Publisher, stop: asyncio.Event) -> None:
        """Publish 200 a second until told to stop."""
        while not stop.is_set():
            await self.publish(publisher, 20)
            await asyncio.sleep(0.1)


@pytest.mark.long
@pytest.mark.in_turn
@pytest.mark.timeout(900)
async def test_a_hundred_thousand_messages_are_moved_under_load(
    rabbitmq: Broker, name: str, tmp_path: Path
) -> None:
    """Classic to quorum, while the former service consumes; killed twice: none is lost."""
    management = api_of(rabbitmq)
    counts: Counter[int] = Counter()

    def made(queue: Queue, seconds: float) -> Service:
        found = Service("ledger", retry=service(queue).retry, publishes=[])

        @found.handler(queue, bind=[payments.key("order.#")], prefetch=200)
        async def post(body: dict[str, Any]) -> None:
            await asyncio.sleep(seconds)
            counts[body["n"]] += 1

        return found

    before = made(Queue("ledger.post", type="classic"), 0.05)
    wanted = made(Queue("ledger.post"), 0.001)
    many, stop = ManyMessages(), asyncio.Event()
    with vhost_of(rabbitmq, name) as url:
        assert await applied(url, before, management=management) == []
        async with Publisher(url) as publisher:
            while many.sent < 100_000:
                await many.publish(publisher, 2_000)
            trickling = asyncio.create_task(many.trickle(publisher, stop))
            async with (
                Runtime(before, BrokerUrl.parse(url), grace=5),
                started_when_it_can(wanted, url),
            ):
                await Applying(url, "wanted", management, tmp_path).run(most=6.0)
                stop.set()
                await trickling
                await eventually(lambda: len(counts) == many.sent, 300.0)
    assert len(counts) == many.sent
    twice = sum(count - 1 for count in counts.values())
    # What a killed shovel had on its way, as many as its prefetch, may come twice.
    assert twice <= KILLS * 1_000


@pytest.mark.long
@pytest.mark.in_turn
@pytest.mark.timeout(600)
async def test_partitions_change_while_services_run(
    rabbitmq: Broker, name: str, tmp_path: Path
) -> None:
    """From 8 to 12 and killed twice; the new service starts before the former one stops."""
    management = api_of(rabbitmq)
    got: list[dict[str, Any]] = []
    few = service(Queue("ledger.post", partitions=8), got, order_by="key")
    many = service(Queue("ledger.post", partitions=12), got, order_by="key")
    with vhost_of(rabbitmq, name) as url:
        assert await applied(url, few, management=management) == []
        async with Load(url, keys=20) as load:
            former = Runtime(few, BrokerUrl.parse(url), grace=10)
            await former.__aenter__()
            await eventually(lambda: len(got) > 500)
            applying = Applying(url, "many", management, tmp_path)
            task = asyncio.create_task(applying.run(most=6.0))
            asked = "another number of partitions"
            await eventually(lambda: asked in applying.said() or task.done(), 200.0)
            async with Runtime(many, BrokerUrl.parse(url), grace=10):
                await former.__aexit__(None, None, None)
                await task
                handled = len(got)
                await eventually(lambda: len(got) > handled + 500)
                await load.stop()
                await eventually(lambda: len(pairs(got)) == len(load.sent), 60.0)
    assert in_order(got)
    assert len(got) - len(load.sent) <= KILLS * 1_000
