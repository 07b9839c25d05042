"""One process of a measurement: it publishes, or runs a service, and tells what it saw.

    python -m tests.benchmarks.large.worker publish --url URL --queue Q --messages N
    python -m tests.benchmarks.large.worker handle --url URL --queue Q --messages N --do sleep

It prints JSON objects, a line each: `{"ready": true}` once the service runs, and at the end the
result. `handle` ends when it has handled so many, or when its standard input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BrokerUrl,
    Delivery,
    Outgoing,
    Publisher,
    Queue,
    Retry,
    RetryLater,
    Runtime,
    Service,
    drivers,
)
from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.cli.loop import runner, tune_collector
from tests.benchmarks.side_by_side.systems.base import BODY, Order, orders, peak_memory, say

MARKS = 10
"""How often, besides the start, time and memory are noted on the way to the last message."""

BEATS = 0.05
"""Seconds between two looks at how late the event loop is."""

LATE_UNIT = 0.1
"""Seconds; how far apart two latenesses must be to be told from each other: a delay's tick."""

WINDOW = 500


def resident() -> float:
    """MiB that this process has resident now; the most it ever had, where there is no /proc."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_memory()
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Watch:
    """Counts messages, and notes time and memory along the way."""

    def __init__(self, messages: int) -> None:
        self.done = asyncio.Event()
        self.count = 0
        self.running = 0
        self.most = 0
        """Runs of handlers at the same time."""
        self.lag = 0.0
        self.marks: list[tuple[int, float, float]] = []
        self.tenths: Counter[int] = Counter()
        """Messages in each tenth of a second of the machine's monotonic clock."""
        self.messages = messages
        self._every = max(messages // MARKS, 1)

    def tick(self) -> None:
        """One more."""
        if not self.count:
            self.mark()
        self.count += 1
        self.tenths[int(time.monotonic() * 10)] += 1
        if not self.count % self._every:
            self.mark()
        if self.count == self.messages:
            self.done.set()

    def mark(self) -> None:
        """Note time and memory."""
        self.marks.append((self.count, time.monotonic(), resident()))

    async def beat(self) -> None:
        """Find the longest time that the event loop did nothing else for."""
        while True:
            asked = time.monotonic()
            await asyncio.sleep(BEATS)
            self.lag = max(self.lag, time.monotonic() - asked - BEATS)

    def tell(self, **more: object) -> None:
        """Print the result."""
        say(
            count=self.count,
            marks=self.marks,
            tenths=self.tenths,
            most=self.most,
            lag_s=self.lag,
            peak_mib=peak_memory(),
            **more,
        )


class Later:
    """Delays every message once, to a moment of its own, and measures how late it is back.

    All are due after `hold` seconds, spread over `spread` seconds.
    """

    def __init__(self, hold: float, spread: float, watch: Watch) -> None:
        self._base = time.monotonic() + hold
        self._spread = spread
        self._watch = watch
        self.scheduled = Watch(watch.messages)
        self.late: Counter[int] = Counter()
        self.moved: dict[str, float] = {}
        """When those are due whose turn came only after their moment."""

    def handle(self, order: Order, delivery: Delivery) -> None:
        """Ask for the delay, or measure it."""
        due = self._base + hash(order.id) % 10_000 / 10_000 * self._spread
        now = time.monotonic()
        if delivery.attempt == 1:
            self.scheduled.tick()
            if due < now + LATE_UNIT:
                due = self.moved[order.id] = now + LATE_UNIT
            raise RetryLater(due - now)
        due = self.moved.get(order.id, due)
        self.late[int((now - due) // LATE_UNIT)] += 1
        self._watch.tick()


def spin(seconds: float) -> None:
    """Use so much of this thread's processor time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def queues(options: argparse.Namespace) -> list[Queue]:
    """The queues of a run; the first has the given name."""
    names = [options.queue, *(f"{options.queue}.{n}" for n in range(1, options.queues))]
    return [Queue(name) for name in names]


def service_of(
    options: argparse.Namespace, work: Callable[[Order, Delivery], Awaitable[None]]
) -> Service:
    """A handler for each queue, all of which do the same."""
    policy = Retry(stop=stop_after_attempt(3), wait=wait_fixed(1))
    service = Service("large", retry=policy)
    register = {"prefetch": options.prefetch, "concurrency": options.concurrency}
    for queue in queues(options):

        @service.handler(queue, **register)
        async def handle(order: Order, delivery: Delivery) -> None:
            await work(order, delivery)

    return service


async def publish(options: argparse.Namespace) -> None:
    """Publish to the queues in turn, from a generator."""
    url = BrokerUrl.parse(options.url)
    connection = Connection(url, name="large", driver=drivers.named())
    await connection.open(15)
    await declare(connection.channel, service_of(options, _nothing).topology)
    publisher = Publisher.on(connection)
    watch = Watch(options.messages)
    async for result in publisher.publish_many(_outgoing(options), window=options.window):
        if result.error is not None:
            raise result.error
        watch.tick()
    await publisher.close()
    await connection.close()
    watch.tell()


def _outgoing(options: argparse.Namespace) -> Iterator[Outgoing]:
    filler = "x" * max(options.size - BODY, 0)
    # A single large one, which is all that this process should hold of them.
    count = 1 if filler else 100
    pool = [each.model_copy(update={"memo": each.memo + filler}) for each in orders(count)]
    names = itertools.cycle(queue.name for queue in queues(options))
    for number in range(options.messages):
        order = pool[number % len(pool)]
        if options.numbered:
            order = order.model_copy(update={"id": str(number)})
        yield Outgoing("", next(names), order)


async def handle(options: argparse.Namespace) -> None:
    """Run the service until its messages are handled, or until standard input is closed."""
    watch = Watch(options.messages)
    later = Later(options.hold, options.spread, watch)

    async def work(order: Order, delivery: Delivery) -> None:
        watch.running += 1
        watch.most = max(watch.most, watch.running)
        try:
            if options.do == "sleep":
                await asyncio.sleep(options.seconds)
            elif options.do == "spin":
                spin(options.seconds)
            elif options.do == "later":
                later.handle(order, delivery)
                return
            watch.tick()
        finally:
            watch.running -= 1

    service = service_of(options, work)
    began = time.time() - options.began
    async with _closed_input(watch.done), Runtime(service, BrokerUrl.parse(options.url)):
        started = time.time() - options.began
        say(ready=True)
        beating = asyncio.create_task(watch.beat())
        await watch.done.wait()
        beating.cancel()
    watch.tell(
        imported_s=began,
        start_s=started,
        scheduled=later.scheduled.marks,
        late=later.late,
        moved=len(later.moved),
    )


@contextlib.asynccontextmanager
async def _closed_input(closed: asyncio.Event) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            closed.set()

    loop.add_reader(sys.stdin.fileno(), read)
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin.fileno())


async def _nothing(_: Order, __: Delivery) -> None:
    return


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["publish", "handle"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--queues", type=int, default=1)
    parser.add_argument("--messages", type=int, default=0)
    parser.add_argument("--size", type=int, default=BODY)
    parser.add_argument("--numbered", action="store_true")
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--do", choices=["nothing", "sleep", "spin", "later"], default="nothing")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--hold", type=float, default=0.0)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--prefetch", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--began", type=float, default=time.time())
    options = parser.parse_args()
    tune_collector()
    with runner(None) as on_loop:
        on_loop.run(publish(options) if options.command == "publish" else handle(options))


if __name__ == "__main__":
    main()
