"""Where the time of one message goes: microseconds of processor time by stage.

    python -m tests.benchmarks.stages [--rounds 7] [--messages 10000] [--json PATH]

mqkit on pika, in this process, on a live broker. No profiler runs: it would charge by the call,
and distort what is made of many small ones. Instead:

- the totals are the processor time of this process while it publishes, or handles, many messages,
- what the kernel took of that is told by the kernel (reading, writing and waiting for sockets),
- what frames and properties take is a run of the driver alone, without what is above it,
- what lies above it and can be called by itself is timed in a loop, on a message that came from
  the broker: decoding and validating the body, the handler, the dispatch around them,
- the rest is what is left: settling and acks, tasks, and the event loop.

The runs take turns; a stage is the median of the rounds.

Exit codes: 0 done, 1 there is no broker, or it failed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import sys
import timeit
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mqkit import (
    BrokerUrl,
    Delivery,
    MqkitError,
    Outgoing,
    Publisher,
    Queue,
    Retry,
    Runtime,
    Service,
    drivers,
)
from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.codec import BodyDecoder
from mqkit.consuming.wiring import running
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.publishing.outgoing import to_message
from mqkit.testing.brokers.finder import find_brokers, start
from tests.benchmarks.side_by_side.machine import machine
from tests.benchmarks.side_by_side.room import Room, own_vhost
from tests.benchmarks.side_by_side.systems.base import PREFETCH, WINDOW, Job, Order

ACK_EVERY = 100
"""Deliveries that the driver alone acks at once: half of the prefetch, so that more keep coming."""

LOOPS = 20_000
"""Calls of what is timed in a loop."""


@dataclass(frozen=True)
class Used:
    """Seconds of this process's processor time."""

    python: float
    kernel: float

    @classmethod
    def so_far(cls) -> Used:
        """Since it began."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(usage.ru_utime, usage.ru_stime)

    def __sub__(self, other: Used) -> Used:
        return Used(self.python - other.python, self.kernel - other.kernel)

    @property
    def all(self) -> float:
        """Both."""
        return self.python + self.kernel


@dataclass(frozen=True)
class Total:
    """Microseconds for a message of what was run in each round."""

    all: float
    kernel: float

    @classmethod
    def of(cls, runs: Sequence[Used], messages: int) -> Total:
        """The median of the rounds.

        What the kernel took is a share of it that is taken over all rounds: it is sampled, some
        hundred times in a second, so that a single round tells little of it.
        """
        whole = statistics.median(run.all for run in runs) / messages * 1e6
        share = sum(run.kernel for run in runs) / sum(run.all for run in runs)
        return cls(whole, whole * share)

    @property
    def python(self) -> float:
        """What the kernel did not take."""
        return self.all - self.kernel


class Counter:
    """Counts messages, and knows what the time from the first to the last was used for."""

    def __init__(self, messages: int) -> None:
        self.done = asyncio.Event()
        self._left = messages
        self._first: Used | None = None
        self.used = Used(0.0, 0.0)

    def tick(self) -> None:
        """One more."""
        if self._first is None:
            self._first = Used.so_far()
        self._left -= 1
        if not self._left:
            self.used = Used.so_far() - self._first
            self.done.set()


class Stages:
    """The runs on one broker, and what they used."""

    def __init__(self, room: Room, messages: int) -> None:
        self._room = room
        self._messages = messages
        self._url = BrokerUrl.parse(room.url)
        self._delivery = Delivery()
        self.runs: dict[str, list[Used]] = {}

    async def round(self) -> None:
        """Fill two queues and empty them, each with the driver alone and with all of mqkit."""
        for queue_of in (self._driver, self._whole):
            with self._room.queue("stages") as queue:
                await queue_of(queue)

    async def _driver(self, queue: str) -> None:
        connection = await self._connect()
        await declare(connection.channel, _service(queue, lambda: None).topology)
        await self._publish_by_driver(await connection.channel(), queue)
        await self._consume_by_driver(await connection.channel(), queue)
        await connection.close()

    async def _whole(self, queue: str) -> None:
        counter = Counter(self._messages)
        service = _service(queue, counter.tick)
        connection = await self._connect()
        await declare(connection.channel, service.topology)
        publisher = Publisher.on(connection)
        began = _begin()
        async for result in publisher.publish_many(self._outgoing(queue), window=WINDOW):
            if result.error is not None:
                raise result.error
        self._note("publish", Used.so_far() - began)
        await publisher.close()
        await connection.close()
        _begin()
        async with Runtime(service, self._url, driver=drivers.named("pika")):
            await counter.done.wait()
        self._note("handle", counter.used)

    async def _publish_by_driver(self, channel: DriverChannel, queue: str) -> None:
        """As the publisher does it, of messages that are ready, with no future for any."""
        ready = [to_message(each, "benchmark") for each in self._outgoing(queue)]
        confirmed = written = 0
        more = asyncio.Event()

        def on_confirm(tag: int, multiple: bool, _: bool) -> None:
            nonlocal confirmed
            confirmed = tag if multiple else confirmed + 1
            more.set()

        await channel.confirm_select(on_confirm, lambda _: None)
        began = _begin()
        while confirmed < self._messages:
            more.clear()
            while written < self._messages and written - confirmed < WINDOW:
                channel.publish(ready[written])
                written += 1
            await more.wait()
        self._note("driver publishes", Used.so_far() - began)

    async def _consume_by_driver(self, channel: DriverChannel, queue: str) -> None:
        counter = Counter(self._messages)

        def on_delivery(incoming: Incoming) -> None:
            if not incoming.tag % ACK_EVERY or incoming.tag == self._messages:
                channel.ack(incoming.tag, multiple=True)
                self._delivery = Delivery(incoming.body, incoming.properties)
            counter.tick()

        await channel.qos(PREFETCH)
        _begin()
        await channel.consume(queue, on_delivery, lambda: None)
        await counter.done.wait()
        self._note("driver consumes", counter.used)

    def total(self, name: str) -> Total:
        """What was run under this name."""
        return Total.of(self.runs[name], self._messages)

    def timed(self, loops: int = LOOPS) -> dict[str, float]:
        """Microseconds of what can be called by itself, on a message that came from the broker."""
        delivery = self._delivery
        decoder = BodyDecoder(Order)
        order = decoder.decode(delivery.body, delivery.properties)
        service = _service("stages", lambda: None)
        (handler,) = service.handlers
        dispatcher = running(
            service.name, handler, middleware=(), values={}, providers={}, executor=None
        ).dispatcher
        outgoing = Outgoing("", "stages", order)
        return {
            "decode": _timed(lambda: decoder.decode(delivery.body, delivery.properties), loops),
            "handler": _timed(lambda: _driven(handler.function(order)), loops),
            "dispatch": _timed(lambda: _driven(dispatcher.dispatch(delivery)), loops),
            "encode": _timed(lambda: to_message(outgoing, "benchmark"), loops),
        }

    async def _connect(self) -> Connection:
        connection = Connection(self._url, name="stages", driver=drivers.named("pika"))
        await connection.open(15)
        return connection

    def _outgoing(self, queue: str) -> Iterator[Outgoing]:
        return (Outgoing("", queue, order) for order in Job("", queue, self._messages).orders())

    def _note(self, name: str, used: Used) -> None:
        self.runs.setdefault(name, []).append(used)


def handling(totals: Callable[[str], Total], timed: Mapping[str, float]) -> dict[str, float]:
    """The stages of a message that is handled; together they are the whole."""
    whole, driver = totals("handle"), totals("driver consumes")
    around = timed["dispatch"] - timed["decode"] - timed["handler"]
    rest = whole.python - driver.python - timed["dispatch"]
    return {
        "kernel: reading, writing and waiting for the socket": whole.kernel,
        "driver: frames, properties": driver.python,
        "body: decode and validate": timed["decode"],
        "dispatch around the handler": around,
        "the handler, which does nothing": timed["handler"],
        "settling and acks, tasks, the loop: the rest": rest,
    }


def publishing(totals: Callable[[str], Total], timed: Mapping[str, float]) -> dict[str, float]:
    """The stages of a message that is published; together they are the whole."""
    whole, driver = totals("publish"), totals("driver publishes")
    return {
        "kernel: reading, writing and waiting for the socket": whole.kernel,
        "checks, body to JSON, message id": timed["encode"],
        "driver: properties, frames, reading confirms": driver.python,
        "confirm, window, deadline, the loop: the rest": (
            whole.python - driver.python - timed["encode"]
        ),
    }


def _service(queue: str, handled: Callable[[], None]) -> Service:
    service = Service("benchmark", retry=Retry.never())

    @service.handler(Queue(queue), prefetch=PREFETCH, concurrency=PREFETCH)
    async def handle(order: Order) -> None:
        handled()

    return service


def _begin() -> Used:
    gc.collect()
    return Used.so_far()


def _driven(work: Coroutine[Any, Any, Any]) -> None:
    """Run what waits for nothing, without a loop's task."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


def _timed(call: Callable[[], object], loops: int) -> float:
    """Microseconds of one call: the fastest of some loops, as `timeit` has it."""
    return min(timeit.repeat(call, number=loops, repeat=5)) / loops * 1e6


async def measure(room: Room, rounds: int, messages: int) -> Stages:
    """All rounds, after one that warms up."""
    stages = Stages(room, messages)
    await stages.round()
    stages.runs.clear()
    for _ in range(rounds):
        await stages.round()
    return stages


def _table(title: str, stages: Mapping[str, float]) -> Table:
    whole = sum(stages.values())
    table = Table(title, "µs a message", "share")
    for name, microseconds in stages.items():
        table.add_row(name, f"{microseconds:.1f}", f"{microseconds / whole:.0%}")
    table.add_row("all", f"{whole:.1f}", "", style="bold")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure on the broker that is found, and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stages")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=10_000, help="of each run")
    parser.add_argument("--json", type=Path, metavar="PATH")
    options = parser.parse_args(argv)
    try:
        with start(find_brokers(os.environ)[0]) as broker, own_vhost(broker) as url:
            room = Room(broker, url)
            stages = asyncio.run(measure(room, options.rounds, options.messages))
    except MqkitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # Of a loop that is running: what is dispatched asks it for the time.
    timed = asyncio.run(_in_loop(stages.timed))
    handled, published = handling(stages.total, timed), publishing(stages.total, timed)
    console = Console()
    console.print(
        _table("a message is handled", handled), _table("a message is published", published)
    )
    if options.json is not None:
        report = {"handled": handled, "published": published, "machine": machine()}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


async def _in_loop(call: Callable[[], dict[str, float]]) -> dict[str, float]:
    return call()


if __name__ == "__main__":
    sys.exit(main())
