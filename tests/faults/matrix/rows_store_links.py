"""Rows 13 and 22: what a worker has done, and the broker does not know of."""

from __future__ import annotations

import asyncio
import contextlib
import time

from mqkit import Delivery, Queue
from mqkit.outcome import Ack, Outcome
from mqkit.store import Store
from mqkit.testing.proxy.proxy import ACK_FRAME, TcpProxy
from tests.faults.matrix.hurt import consumer_timeout
from tests.faults.matrix.ledger import Ledger, ledger
from tests.faults.matrix.row import Bench, row
from tests.faults.matrix.services import DRIVERS
from tests.faults.store_services import EVENTS, QUEUE, posting
from tests.support import Client, Telling, eventually

AT_ONCE = 5
"""Orders whose acks are lost together."""

SLOW = 0.9
"""Seconds that they take, less than a publisher goes without a confirm before it probes."""

AGAIN = "was handled before"
"""In the log, for each message that came again after its commit."""

TIMEOUT = 1.5
"""Seconds of the broker's consumer timeout."""

OVER = 4.0
"""Seconds that a handler takes which is over it."""

NO_TIMEOUT = 600.0
"""Seconds, where the queue's own timeout is what must hold."""

QUEUES = 4
"""Queues of one round: two ways to set the timeout, and one or two consumers."""

OWN_TIMEOUT_SINCE = (3, 12)
"""RabbitMQ knows the queue argument since then
(https://www.rabbitmq.com/docs/consumers#per-queue-delivery-timeouts-using-an-optional-queue-argument)."""


@row(13, "ack lost", short=4)
async def ack_lost(bench: Bench) -> None:
    """The acks vanish on the way, or the connection breaks right after one: no second effect."""
    acks: list[str | None] = []

    def settled(delivery: Delivery, outcome: Outcome) -> None:
        if isinstance(outcome, Ack):
            acks.append(delivery.message_id)

    async with ledger(bench) as kept, bench.client() as client:
        await client.declare(EVENTS)
        lost = 0
        for number, driver in enumerate(DRIVERS):
            faults = (bench.faults + 1 - number) // len(DRIVERS)
            with bench.proxy() as proxy:
                service = posting(bench.journal, Store(kept.url))
                url = bench.at(proxy)
                async with bench.serving(
                    service, url, driver=driver, observer=Telling(settled=settled)
                ):
                    for each in range(faults):
                        if each % 2 == 0:
                            lost += await _lose_acks(bench, kept, client, proxy, acks)
                        else:
                            await _cut_after_ack(bench, kept, client, proxy)
                    await kept.settled()
        await kept.collect(client)
    again = bench.logged().count(AGAIN)
    bench.check(0 < lost <= again, f"{again} messages came again, of {lost} whose acks vanished")
    bench.figures.notes.append(f"{lost} acks vanished, {again} messages came again")


async def _lose_acks(
    bench: Bench, kept: Ledger, client: Client, proxy: TcpProxy, acks: list[str | None]
) -> int:
    """Let nothing through to the broker from before the acks are written until they are lost.

    Nor the events, which the relay writes without asking anything first: it had a confirm just now.
    """
    slow, quick = kept.accounts[2:], kept.accounts[:2]
    keys = await kept.send_many(client.publisher, AT_ONCE, seconds=SLOW, between=slow)
    await eventually(lambda: bench.journal.running() == AT_ONCE, what="the runs")
    await kept.applied([await kept.send(client.publisher, between=quick)])
    await eventually(kept.is_published, what="a confirm")
    lost = len(set(keys) - set(acks))  # on a busy machine, a run may have ended by now
    proxy.drop("to_broker")
    await eventually(lambda: set(keys) <= set(acks), what="the acks")
    bench.fault()
    since = time.monotonic()
    # In this order: what the proxy has not read yet, on a busy machine, would go on to the broker.
    # Nobody connects in between, as all clients are on this event loop.
    proxy.cut()
    proxy.heal()
    await kept.applied([await kept.send(client.publisher)])
    bench.recovered(since)
    return lost


async def _cut_after_ack(bench: Bench, kept: Ledger, client: Client, proxy: TcpProxy) -> None:
    """Reset the connection right after one of the acks: the others' are lost, it may be."""
    sprung = proxy.cut_after("to_broker", pattern=ACK_FRAME, reset=True)
    keys = await kept.send_many(client.publisher, AT_ONCE, seconds=0.1)
    await asyncio.wait_for(asyncio.wrap_future(sprung), 15)
    bench.fault()
    since = time.monotonic()
    await kept.applied([*keys, await kept.send(client.publisher)])
    bench.recovered(since)


@row(22, "handler slower than the consumer timeout", brokers=("3.10", "4.0", "4.3"), short=4)
async def over_the_timeout(bench: Bench) -> None:
    """The broker takes the message back: no second effect, and consumption goes on."""
    async with ledger(bench) as kept, bench.client() as client:
        await client.declare(EVENTS)
        while bench.figures.faults < bench.faults:
            count = min(QUEUES, bench.faults - bench.figures.faults)
            await _one_round(bench, kept, client, bench.figures.faults, count)
        await kept.collect(client)


async def _one_round(bench: Bench, kept: Ledger, client: Client, first: int, count: int) -> None:
    version = tuple(int(part) for part in bench.broker.version.split(".")[:2])
    by_queue = version >= OWN_TIMEOUT_SINCE
    # What the server allows is more than enough where a queue says less.
    groups = {TIMEOUT: range(first, first + count)}
    if by_queue:
        groups = {
            TIMEOUT: range(first, first + count // 2),
            NO_TIMEOUT: range(first + count // 2, first + count),
        }
    for allowed, numbers in groups.items():
        if numbers:
            async with consumer_timeout(bench.broker, allowed):
                await _overrun(bench, kept, client, numbers, own=allowed == NO_TIMEOUT)


async def _overrun(
    bench: Bench, kept: Ledger, client: Client, numbers: range, *, own: bool
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        queues: list[str] = []
        for number in numbers:
            single = number % 2 == 1
            arguments: dict[str, object] = {"x-single-active-consumer": True} if single else {}
            if own:
                arguments["x-consumer-timeout"] = round(TIMEOUT * 1000)
            queue = Queue(f"{QUEUE}.{number}", arguments=arguments)
            for driver in DRIVERS if single else DRIVERS[number // 2 % 2 :][:1]:
                store = Store(kept.url, pool=5, relay=not queues)
                service = posting(bench.journal, store, queue=queue)
                await stack.enter_async_context(bench.serving(service, driver=driver))
            queues.append(queue.name)
        slow = [await kept.send(client.publisher, name, seconds=OVER) for name in queues]
        bench.fault(len(slow))
        await eventually(
            lambda: all(f"message {key} {AGAIN}" in bench.logged() for key in slow),
            within=40,
            what="a second delivery of each",
        )
        since = time.monotonic()
        await kept.applied([await kept.send(client.publisher, name) for name in queues])
        bench.recovered(since)
        await kept.settled()
