"""What a service that stops leaves behind on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator

import pytest
from pydantic import BaseModel

from mqkit import BrokerUrl, Outgoing, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.testing.brokers.broker import Broker
from tests.support import Client, connected, eventually

pytestmark = pytest.mark.usefixtures("driver")

MANY = 150


class Item(BaseModel):
    """One of many."""

    number: int


async def send(client: Client, queue: str, numbers: list[int]) -> None:
    """Publish them."""
    async for result in client.publisher.publish_many(
        Outgoing("", queue, Item(number=each)) for each in numbers
    ):
        assert result.error is None


class OnDraining(logging.Handler):
    """Does something in the moment in which a service has asked for no more messages."""

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__()
        self._do = do

    def emit(self, record: logging.LogRecord) -> None:
        """Do it."""
        if "draining" in record.getMessage():
            self._do()


@contextlib.contextmanager
def on_draining(do: Callable[[], None], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Do it there."""
    handler = OnDraining(do)
    with caplog.at_level(logging.INFO, "mqkit"):
        logging.getLogger("mqkit").addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger("mqkit").removeHandler(handler)


@pytest.mark.parametrize(
    ("at_a_time", "partitions"),
    [(MANY, None), (MANY, 1), (1, None)],
    ids=["acks", "order", "nacks"],
)
async def test_what_is_handled_is_not_handled_again_after_a_stop(
    rabbitmq: Broker,
    name: str,
    at_a_time: int,
    partitions: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Though RabbitMQ forgets acks that are behind many acks or nacks when their channel closes."""
    queue = Queue(f"{name}.q", partitions=partitions)
    handled: list[int] = []
    running: dict[int, asyncio.Event] = {}

    def service(*, at_once: bool) -> Service:
        made = Service(name, retry=Retry.never())

        @made.handler(
            queue, prefetch=MANY, concurrency=at_a_time, order_by="number" if partitions else None
        )
        async def handle(item: Item) -> None:
            if not at_once:
                running[item.number] = asyncio.Event()
                await running[item.number].wait()
            handled.append(item.number)
            if len(handled) == at_a_time - 1:
                running[0].set()  # only now: it keeps one ack from standing for all of them

        return made

    def end_all() -> None:
        for number in range(min(1, at_a_time - 1), at_a_time):
            running[number].set()

    async def is_empty(client: Client) -> bool:
        return await client.messages(queue.name) == 0

    url = BrokerUrl.parse(rabbitmq.url)
    async with connected(rabbitmq.url) as client:
        await declare(client.connection.channel, service(at_once=True).topology)
        await send(client, queue.name, list(range(MANY)))
        with on_draining(end_all, caplog):
            async with Runtime(service(at_once=False), url):
                await eventually(lambda: len(running) == at_a_time)
                await eventually(lambda: is_empty(client))
        await send(client, queue.name, [MANY])
        async with Runtime(service(at_once=True), url):
            await eventually(lambda: MANY in handled)
    assert sorted(handled) == list(range(MANY + 1))
