"""What watching a service costs: the handled rate with states, metrics, traces, and without.

    python -m tests.benchmarks.observability [--rounds 9] [--messages 6000] [--store] [--json PATH]

In one process on one broker, in short slices that take turns, each of which fills a queue and has
it handled by a handler that does nothing: a handler that works makes every share smaller. With
`--store` it does the least that one with a transaction does: an insert in a SQLite file. What else
the machine does only ever adds to a slice's time, by what it takes from the processor's caches too.
So told are the means of the best third of the rounds: the rate on the clock, the processor time of
a message, and both as a ratio to those of nothing.

Traces are sampled at 10 %: one of ten messages comes with a context that is, all of them with one.
What that header costs a service that traces nothing is told beside it (`headers`). The spans go by
OpenTelemetry's batches to an exporter that drops them; a real one costs more, for those that are
sampled.

Exit codes: 0 each costs as little as it may; 1 one costs more, or there is no broker.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from sqlalchemy import text

from mqkit import (
    BrokerUrl,
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
from mqkit.observability.metrics import Metrics
from mqkit.observability.tracing import Tracing
from mqkit.publishing.lifetime import Options
from mqkit.store import Store, Transaction
from mqkit.testing.brokers.finder import find_brokers, start
from tests.benchmarks.side_by_side.room import Room, own_vhost
from tests.benchmarks.side_by_side.systems.base import PREFETCH, WINDOW, Job, Meter, Order

ROUNDS, MESSAGES = 9, 6000

CREATE = text("CREATE TABLE IF NOT EXISTS watched (id TEXT, amount TEXT)")
INSERT = text("INSERT INTO watched VALUES (:id, :amount)")

SAMPLED = 0.1
"""The share of the messages whose spans are kept."""


@dataclass(frozen=True)
class Watched:
    """One way to watch a service."""

    may_cost: float
    """The share of the rate that it may cost at most."""
    service: Callable[[], Mapping[str, Any]] = dict
    """Makes options of the `Service`."""
    runtime: Callable[[], Mapping[str, Any]] = dict
    """Makes options of its `Runtime`."""
    publisher: Callable[[], Options] = Options
    """Makes options of the `Publisher` that fills the queue, which is not measured."""


class Dropping(SpanExporter):
    """Exports spans to nowhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


@functools.cache
def sampled() -> Tracing:
    """Make what traces one of ten messages, once: its batches are exported by a thread."""
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(SAMPLED))
    provider.add_span_processor(BatchSpanProcessor(Dropping()))
    return Tracing(provider)


WAYS: dict[str, Watched] = {
    "nothing": Watched(0.0),
    "states": Watched(0.02, runtime=lambda: {"states": True}),
    "metrics": Watched(0.05, runtime=lambda: {"observer": Metrics()}),
    "headers": Watched(0.15, publisher=lambda: {"tracing": sampled()}),
    "tracing": Watched(
        0.15,
        service=lambda: {"tracing": sampled()},
        publisher=lambda: {"tracing": sampled()},
    ),
}
"""What is measured, the first one as what the others are compared with."""


@dataclass
class Measured:
    """What the rounds of one way have come to."""

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    """Microseconds of processor time of a message."""

    def beside(self, base: Measured) -> dict[str, float]:
        """The means of the best third of the rounds, and their ratios to the base's."""
        return {
            "handled_per_s": self.rate,
            "cpu_us_per_message": self.cost,
            "rate_ratio": self.rate / base.rate,
            "cpu_ratio": self.cost / base.cost,
        }

    @property
    def rate(self) -> float:
        """Of the quickest third."""
        return statistics.mean(sorted(self.rates, reverse=True)[: _third(self.rates)])

    @property
    def cost(self) -> float:
        """Of the cheapest third."""
        return statistics.mean(sorted(self.costs)[: _third(self.costs)])


def _third(rounds: Sequence[float]) -> int:
    return -(-len(rounds) // 3)


async def measure(
    room: Room, ways: Mapping[str, Watched], rounds: int, messages: int, *, has_store: bool = False
) -> dict[str, dict[str, float]]:
    """Measure all ways in turn; who comes first changes."""
    found = {name: Measured() for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            with room.queue(f"watched-{name}") as queue:
                handle = _handle_in_store if has_store else _handle
                meter = await handle(Job(room.url, queue, messages), ways[name])
            if number:  # the first one warms up
                found[name].rates.append(meter.rate)
                found[name].costs.append(meter.cost)
    return {name: each.beside(found[names[0]]) for name, each in found.items()}


async def _handle(job: Job, way: Watched) -> Meter:
    """Measure a handler that does nothing."""
    done = asyncio.get_running_loop().create_future()
    meter = Meter(job, functools.partial(_end, done))
    service = Service("watched", retry=Retry.never(), **way.service())

    @service.handler(Queue(job.queue), prefetch=PREFETCH, concurrency=PREFETCH)
    async def handle(order: Order) -> None:
        try:
            meter.handled(order)
        except BaseException as error:
            _end(done, error)
            raise

    await _run(job, way, service, done)
    return meter


async def _handle_in_store(job: Job, way: Watched) -> Meter:
    """Measure a handler that inserts a row."""
    done = asyncio.get_running_loop().create_future()
    meter = Meter(job, functools.partial(_end, done))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/store.sqlite")
        service = Service("watched", retry=Retry.never(), store=store, **way.service())

        @service.handler(Queue(job.queue), prefetch=PREFETCH)
        async def handle(order: Order, transaction: Transaction) -> None:
            try:
                if not meter.start:  # it is the first
                    await transaction.execute(CREATE)
                await transaction.execute(INSERT, {"id": order.id, "amount": str(order.amount)})
                meter.handled(order)
            except BaseException as error:
                _end(done, error)
                raise

        await _run(job, way, service, done)
    return meter


def _end(done: asyncio.Future[None], error: BaseException | None = None) -> None:
    """End the measurement: all messages are handled, or one has failed and never will be."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


async def _run(job: Job, way: Watched, service: Service, done: asyncio.Future[None]) -> None:
    url = BrokerUrl.parse(job.url)
    connection = Connection(url, name="watched", driver=drivers.named("pika"))
    await connection.open(15)
    await declare(connection.channel, service.topology)
    publisher = Publisher.on(connection, **way.publisher())
    outgoing = (Outgoing("", job.queue, order) for order in job.orders())
    async for result in publisher.publish_many(outgoing, window=WINDOW):
        if result.error is not None:
            raise result.error
    await publisher.close()
    await connection.close()
    gc.collect()
    async with Runtime(service, url, driver=drivers.named("pika"), **way.runtime()):
        await done


def lines(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say it for a person."""
    return [
        f"{name:>12}: {each['handled_per_s']:8,.0f} handled/s ({each['rate_ratio']:.3f}), "
        f"{each['cpu_us_per_message']:6.1f} us of processor a message ({each['cpu_ratio']:.3f})"
        for name, each in measured.items()
    ]


def too_dear(measured: Mapping[str, Mapping[str, float]], ways: Mapping[str, Watched]) -> list[str]:
    """What costs more than it may, by processor time: the rate is the machine's for a part."""
    return [
        f"{name}: {each['cpu_ratio'] - 1:.1%} more processor time a message, where "
        f"{ways[name].may_cost:.0%} is the most"
        for name, each in measured.items()
        if each["cpu_ratio"] > 1 + ways[name].may_cost + 1e-9
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure on the broker that is found; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.observability")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--messages", type=int, default=MESSAGES, help="of each slice")
    parser.add_argument("--store", action="store_true", help="handle in a transaction")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(argv)
    try:
        with start(find_brokers(os.environ)[0]) as broker, own_vhost(broker) as url:
            room = Room(broker, url)
            measured = asyncio.run(
                measure(room, WAYS, options.rounds, options.messages, has_store=options.store)
            )
    except MqkitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json is not None:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
    sys.stdout.write(
        "\n".join([f"the best third of {options.rounds} rounds", *lines(measured)]) + "\n"
    )
    problems = too_dear(measured, WAYS)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
