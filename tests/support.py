"""Helpers of tests on a real broker: waiting for events, a bare client, a service process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pika

from mqkit import BrokerUrl, Publisher
from mqkit.broker.connection import Connection
from mqkit.drivers import named
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.drivers.pika import convert as pika_wire
from mqkit.message import Delivery, Message
from mqkit.middleware import Observer
from mqkit.outcome import Outcome
from tests.forked import Command

ROOT = Path(__file__).parent.parent

MANY = 50
"""Messages of a queue that are consumed rather than got."""


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], within: float = 40.0, what: str = "it"
) -> None:
    """Wait until the condition holds; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        holds = condition()
        if isinstance(holds, bool):
            if holds:
                return
        elif await holds:
            return
        assert time.monotonic() < deadline, f"{what} did not happen within {within:g} s"
        await asyncio.sleep(0.02)


class Telling(Observer):
    """An observer that calls functions of a test."""

    def __init__(
        self,
        settled: Callable[[Delivery, Outcome], object] = lambda *_: None,
        confirmed: Callable[[Message], object] = lambda _: None,
    ) -> None:
        self._settled = settled
        self._confirmed = confirmed

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Tell it."""
        self._settled(delivery, outcome)

    def confirmed(self, message: Message) -> None:
        """Tell it."""
        self._confirmed(message)


class Client:
    """A connection beside the service under test: publishes, looks into queues, breaks things."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.publisher = Publisher.on(connection)

    async def messages(self, queue: str) -> int:
        """Count the ready messages of a queue."""
        async with self.channel() as channel:
            return (await channel.declare_queue(queue, passive=True)).messages

    async def consumers(self, queue: str) -> int:
        """Count the consumers of a queue."""
        async with self.channel() as channel:
            return (await channel.declare_queue(queue, passive=True)).consumers

    async def declare(self, queue: str, **arguments: object) -> None:
        """Declare a durable quorum queue."""
        async with self.channel() as channel:
            await channel.declare_queue(queue, arguments={"x-queue-type": "quorum", **arguments})

    async def take(self, queue: str, within: float = 40.0) -> Incoming:
        """Wait for the next message of the queue, acknowledge and return it."""
        deadline = time.monotonic() + within
        async with self.channel() as channel:
            while (incoming := await channel.get(queue)) is None:
                assert time.monotonic() < deadline, f"nothing came to {queue} in {within:g} s"
                await asyncio.sleep(0.02)
            channel.ack(incoming.tag)
            return incoming

    async def take_all(self, queue: str) -> list[Incoming]:
        """Acknowledge and return all that is in the queue now."""
        found: list[Incoming] = []
        async with self.channel() as channel:
            count = (await channel.declare_queue(queue, passive=True)).messages
            if count > MANY:
                await self._consume(channel, queue, count, found)
            while (incoming := await channel.get(queue)) is not None:
                channel.ack(incoming.tag)
                found.append(incoming)
        return found

    @staticmethod
    async def _consume(
        channel: DriverChannel, queue: str, count: int, found: list[Incoming]
    ) -> None:
        """Take so many messages by a consumer, where one by one would take many seconds."""

        def take(incoming: Incoming) -> None:
            channel.ack(incoming.tag)
            found.append(incoming)

        tag = await channel.consume(queue, take, lambda: None)
        await eventually(lambda: len(found) >= count, what=f"{count} messages in {queue}")
        await channel.cancel(tag)

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[DriverChannel]:
        """Open a channel for the block."""
        channel = await self.connection.channel()
        try:
            yield channel
        finally:
            await channel.close()


async def delete(url: str, *, queue: str | None = None, exchange: str | None = None) -> None:
    """Delete a queue or an exchange while it is used; mqkit itself never does."""

    def in_thread() -> None:
        broker_url = BrokerUrl.parse(url)
        parameters = pika_wire.parameters(broker_url, broker_url.hosts[0], "test")
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            if queue is not None:
                channel.queue_delete(queue)
            if exchange is not None:
                channel.exchange_delete(exchange)

    await asyncio.to_thread(in_thread)


@contextlib.asynccontextmanager
async def connected(url: str, name: str = "test") -> AsyncIterator[Client]:
    """Connect a client to the broker."""
    connection = Connection(BrokerUrl.parse(url), name=name, driver=named())
    await connection.open(15)
    client = Client(connection)
    try:
        yield client
    finally:
        await client.publisher.close()
        await connection.close()


@contextlib.asynccontextmanager
async def peer(words: bytes) -> AsyncIterator[int]:
    """Listen on a port, accept connections and say no more than these words on each."""
    writers: list[asyncio.StreamWriter] = []

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(words)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)  # in which the loop lets go of the sockets


@dataclass
class ServiceProcess:
    """`mqkit run` in a process of its own."""

    process: subprocess.Popen[str]
    log: Path

    def text(self) -> str:
        """Return what it has logged and printed until now."""
        return self.log.read_text()

    async def says(self, words: str, within: float = 45.0) -> None:
        """Wait until its output has these words."""

        def said() -> bool:
            if words in self.text():
                return True
            assert self.process.poll() is None, f"it ended: {self.text()}"
            return False

        await eventually(said, within, f"{words!r} in:\n{self.text()}")

    async def ends(self, within: float = 60.0) -> int:
        """Wait until it ends; returns its exit code, negative for a signal."""
        await eventually(lambda: self.process.poll() is not None, within, "its end")
        return int(self.process.returncode)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


@contextlib.contextmanager
def running(
    service: str, url: str, log: Path, *options: str, **environment: str
) -> Iterator[ServiceProcess]:
    """Run a service in its own process, killed at the end if it still runs."""
    with log.open("ab") as out:
        process = Command(
            ["run", service, *options],
            env={**os.environ, "MQKIT_URL": url, **environment},
            stdout=out,
            stderr=out,
        )
    try:
        yield ServiceProcess(process, log)
    finally:
        process.kill()
        process.wait()
