"""How fast is the embedded broker, beside a RabbitMQ, in one run on one machine?

    python -m tests.benchmarks.embedded --rabbitmq amqp://guest:guest@127.0.0.1:5672/

One client (the pika driver, in this process) publishes to a quorum queue with confirms, so many
at a time, then consumes all of it and acknowledges each message. The embedded broker runs as
`mqkit broker` in a process of its own, in memory and with a data directory. The brokers take
turns, round by round; the table has the median and the range. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mqkit import BrokerUrl
from mqkit.broker.connection import Connection
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.drivers.pika.driver import PikaDriver
from mqkit.message import Message, Properties

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Load:
    """What is measured."""

    messages: int
    body: int
    """Bytes."""
    window: int
    """Publishes that may be unconfirmed, and deliveries that may be unacknowledged."""


@dataclass
class Target:
    """A broker, and the messages per second that were measured on it."""

    name: str
    url: str
    publish: list[float] = field(default_factory=list)
    consume: list[float] = field(default_factory=list)


@contextlib.contextmanager
def embedded(*options: str) -> Iterator[str]:
    """`mqkit broker` in a process of its own; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mqkit", "broker", "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        port = line.partition("127.0.0.1:")[2].partition("/")[0]
        yield f"amqp://guest:guest@127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


@contextlib.asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[tuple[str, DriverChannel]]:
    """A channel of a connection of its own, and what the broker says that it is."""
    connection = Connection(BrokerUrl.parse(url), name="benchmark", driver=PikaDriver())
    await connection.open(15)
    try:
        yield connection.server, await connection.channel()
    finally:
        await connection.close()


async def publish(channel: DriverChannel, queue: str, load: Load) -> float:
    """Publish with confirms; messages per second."""
    body = secrets.token_bytes(load.body)
    published = confirmed = 0
    more = asyncio.Event()

    def on_confirm(tag: int, multiple: bool, ok: bool) -> None:
        nonlocal confirmed
        assert ok, "the broker refused a message"
        confirmed = tag if multiple else confirmed + 1
        more.set()

    await channel.confirm_select(on_confirm, lambda _: None)
    start = time.perf_counter()
    while confirmed < load.messages:
        more.clear()
        while published < load.messages and published - confirmed < load.window:
            published += 1
            properties = Properties(message_id=str(published))
            channel.publish(Message("", queue, body, properties))
        await more.wait()
    return load.messages / (time.perf_counter() - start)


async def consume(channel: DriverChannel, queue: str, load: Load) -> float:
    """Consume and acknowledge each; messages per second, until the queue is known to be empty."""
    received = 0
    done = asyncio.Event()

    def on_delivery(incoming: Incoming) -> None:
        nonlocal received
        channel.ack(incoming.tag)
        received += 1
        if received == load.messages:
            done.set()

    await channel.qos(load.window)
    start = time.perf_counter()
    await channel.consume(queue, on_delivery, lambda: None)
    await done.wait()
    # The answer comes after the acks before it were read.
    await channel.declare_queue(queue, passive=True)
    return load.messages / (time.perf_counter() - start)


async def measure(target: Target, load: Load) -> str:
    """One round; what the broker says that it is."""
    queue = f"benchmark-{secrets.token_hex(4)}"
    async with channel_of(target.url) as (server, channel):
        arguments = {"x-queue-type": "quorum", "x-expires": 600_000}
        await channel.declare_queue(queue, arguments=arguments)
        target.publish.append(await publish(channel, queue, load))
    async with channel_of(target.url) as (_, channel):
        target.consume.append(await consume(channel, queue, load))
    return server


def figures(rates: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


async def run(targets: list[Target], load: Load, rounds: int) -> dict[str, str]:
    """All rounds, the brokers in turn; the versions that they tell."""
    versions: dict[str, str] = {}
    for target in targets:
        # Unmeasured: imports, caches, the broker's first files.
        small = Load(max(load.messages // 10, 1), load.body, load.window)
        versions[target.name] = await measure(Target(target.name, target.url), small)
    for _ in range(rounds):
        for target in targets:
            await measure(target, load)
    return versions


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rabbitmq", metavar="URL", help="a RabbitMQ to measure beside it")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--body", type=int, default=256, help="bytes")
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    load = Load(options.messages, options.body, options.window)
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        targets = [
            Target("embedded, in memory", stack.enter_context(embedded())),
            Target("embedded, --data", stack.enter_context(embedded("--data", data))),
        ]
        if options.rabbitmq:
            targets.append(Target("RabbitMQ", options.rabbitmq))
        versions = asyncio.run(run(targets, load, options.rounds))
    print("| broker | version | publish with confirm | consume with ack |")  # noqa: T201
    print("| --- | --- | ---: | ---: |")  # noqa: T201
    for each in targets:
        row = (each.name, versions[each.name], figures(each.publish), figures(each.consume))
        print(f"| {' | '.join(row)} |")  # noqa: T201
    print(  # noqa: T201
        f"\nMessages per second, median (range) of {options.rounds} rounds in turn: "
        f"{load.messages:,} messages of {load.body} bytes, one pika {_version('pika')} client, "
        f"quorum queue, window {load.window}. Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()} {platform.machine()}."
    )


def _version(package: str) -> str:
    return importlib.metadata.version(package)


if __name__ == "__main__":
    main()
