"""Queues that their consumer may not leave: one consumer at a time, or gone with the last one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Pause, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.pause import Status
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, eventually

pytestmark = pytest.mark.usefixtures("driver")

SINGLE = {"x-single-active-consumer": True}


class GoneError(Exception):
    """What the handler depends on is down."""


class Runs:
    """What ran, and how many at a time at most."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.now = self.most = 0
        self.is_up = True

    def service(self, name: str, queue: Queue, **options: Any) -> Service:
        """One that handles the queue, one message after the other."""
        service = Service(name, retry=Retry(stop=stop_after_attempt(9), wait=wait_fixed(0.1)))

        @service.handler(queue, concurrency=1, **options)
        async def handle(body: bytes) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(0.02)
                if not self.is_up:
                    raise GoneError
                self.done.append(body.decode())
            finally:
                self.now -= 1

        return service


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_a_single_active_consumer_by_argument_runs_one_at_a_time(
    broker: Broker, name: str, kind: Any
) -> None:
    """Over the starts, a stop and the pauses of two services, in the order of the queue."""
    runs = Runs()
    queue = Queue(f"{name}.q", type=kind, arguments=SINGLE)
    pause = Pause(on=GoneError, rate=0.5, over=2, minimum=1, every=0.2)
    services = [runs.service(f"{name}.{n}", queue, prefetch=10, pause=pause) for n in range(2)]
    async with connected(broker.url) as client:
        await declare(client.connection.channel, services[0].topology)
        for n in range(60):
            await client.publisher.publish("", queue.name, b"%d" % n)
        url = BrokerUrl.parse(broker.url)
        async with Runtime(services[1], url) as second:
            async with Runtime(services[0], url) as first:
                await eventually(lambda: len(runs.done) >= 15)
                runs.is_up = False
                await eventually(
                    lambda: any(
                        each.states[queue.name].status is Status.PAUSED for each in (first, second)
                    )
                )
                runs.is_up = True
                await eventually(lambda: len(runs.done) >= 25)
            await eventually(lambda: len(set(runs.done)) == 60)
    assert runs.most == 1


@pytest.mark.parametrize(
    "queue",
    [
        {"auto_delete": True},
        {"arguments": {"x-expires": 500}},
    ],
    ids=["auto-delete", "expires"],
)
async def test_a_pause_keeps_a_queue_that_goes_without_a_consumer(
    broker: Broker, name: str, queue: dict[str, Any]
) -> None:
    """Nothing of what waited in it is lost."""
    runs = Runs()
    runs.is_up = False
    made = Queue(f"{name}.q", **{"type": "classic", **queue})
    looks: list[bool] = []

    def probe() -> None:
        looks.append(runs.is_up)
        if not runs.is_up:
            raise GoneError

    pause = Pause(on=GoneError, rate=0.5, over=2, minimum=1, every=0.2, probe=probe)
    service = runs.service(name, made, prefetch=5, pause=pause)
    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)) as runtime,
    ):
        for n in range(40):
            await client.publisher.publish("", made.name, b"%d" % n)
        await eventually(lambda: runtime.states[made.name].status is Status.PAUSED)
        await eventually(lambda: len(looks) >= 4)
        runs.is_up = True
        await eventually(lambda: len(set(runs.done)) == 40)
