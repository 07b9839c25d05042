"""Rows 7, 8, 9 and 29: somebody deletes or changes what the services declared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

from mqkit import Exchange, Publisher, Queue
from mqkit.broker.declare import declare
from mqkit.errors import ChannelClosedError, ExchangeNotFoundError, NackedError, UnroutableError
from mqkit.topology import UNLIMITED_DELIVERIES
from tests.faults.matrix.bench import RECOVERY_BUDGET
from tests.faults.matrix.row import Bench, row
from tests.faults.matrix.services import DRIVERS, applying
from tests.support import Client, delete, eventually

PAYMENTS = Exchange("matrix.payments")
OTHERS = Exchange("matrix.others")

BURST = 20
"""Publishes to each exchange that are in flight while one of the two is deleted."""

OTHERWISE = (
    ("x-dead-letter-exchange", "amq.topic", "''"),
    ("x-dead-letter-routing-key", "elsewhere", "matrix.changed.dead"),
)
"""What a queue is declared with instead: one argument at a time, since the broker names the first
difference that it finds, and its versions look in different orders."""

FILL = 50
"""Messages at most that a queue with a maximum length of 1 takes before it refuses."""


@row(7, "queue deleted under its consumer", short=4)
async def queue_deleted(bench: Bench) -> None:
    """Delete it; the consumer is back within 5 s, and what is not routed until then raises."""
    queue = "matrix.deleted"
    for driver in DRIVERS:
        service = applying(bench.journal, queue, bind=[PAYMENTS.key("pay")])
        async with bench.serving(service, driver=driver) as serving, bench.client() as client:
            publisher = serving.publisher
            for _ in range(-(-bench.faults // len(DRIVERS))):
                await bench.applied(await bench.publish(publisher, PAYMENTS.name, "pay"))
                began = time.monotonic()
                await delete(bench.url, queue=queue)
                bench.fault()
                await _until_applied(bench, publisher, PAYMENTS.name, "pay")
                bench.recovered(began, RECOVERY_BUDGET)
            await client.declare("matrix.nobody")
            await delete(bench.url, queue="matrix.nobody")
            with contextlib.suppress(UnroutableError):
                await bench.publish(publisher, "", "matrix.nobody")
                bench.problem("a publish to a deleted queue did not raise UnroutableError")
        await bench.all_ended()


async def _until_applied(bench: Bench, publisher: Publisher, exchange: str, key: str) -> None:
    """Publish until a message is confirmed; each one before it has raised."""
    while True:
        # A queue that is on its way out may also refuse.
        with contextlib.suppress(UnroutableError, NackedError):
            return await bench.applied(await bench.publish(publisher, exchange, key))


@row(8, "queue redeclared with other arguments", short=2)
async def queue_redeclared(bench: Bench) -> None:
    """While its service is away; an error names both, and the service's other queue goes on."""
    changed, other = "matrix.changed", "matrix.other"
    for number in range(bench.faults):
        service = applying(bench.journal, changed)
        for handler in applying(bench.journal, other).handlers:
            service.handler(handler.queue)(handler.function)
        with bench.proxy() as proxy:
            serving = bench.serving(service, proxy.url, driver=DRIVERS[number % len(DRIVERS)])
            async with serving, bench.client() as client:
                publisher = client.publisher
                for queue in (changed, other):
                    await bench.applied(await bench.publish(publisher, "", queue))
                seen = len(bench.logged())
                proxy.refuse_connections()
                proxy.cut()
                await delete(bench.url, queue=changed)
                argument, value, ours = OTHERWISE[number % len(OTHERWISE)]
                arguments = {**Queue(changed).declared_arguments(), argument: value}
                async with client.channel() as channel:
                    await channel.declare_queue(changed, arguments=arguments)
                bench.fault()
                proxy.accept_connections()
                await bench.applied(await bench.publish(publisher, "", other))
                words = f"queue {changed}: {argument} is {value} on the broker, {ours} here"
                await eventually(lambda: words in bench.logged()[seen:], what=f"the log: {words!r}")  # noqa: B023
                await bench.applied(await bench.publish(publisher, "", other))
                began = time.monotonic()
                await delete(bench.url, queue=changed)
                await _until_applied(bench, publisher, "", changed)
                bench.recovered(began)
        await bench.all_ended()


@row(9, "exchange deleted", short=2)
async def exchange_deleted(bench: Bench) -> None:
    """Under publishes to it and to another one, and under handlers that were fed by it."""
    for number in range(bench.faults):
        queue = "matrix.exchange"
        service = applying(bench.journal, queue, bind=[PAYMENTS.key("pay"), OTHERS.key("pay")])
        async with (
            bench.serving(service, driver=DRIVERS[number % len(DRIVERS)]) as serving,
            bench.client() as client,
        ):
            publisher = serving.publisher
            for exchange in (PAYMENTS, OTHERS):
                await bench.publish(publisher, exchange.name, "pay", fields={"seconds": 1.0})
            await eventually(lambda: bench.journal.running() == 2, what="both runs")
            publishing = [
                asyncio.create_task(bench.publish(publisher, exchange.name, "pay"))
                for _ in range(BURST)
                for exchange in (PAYMENTS, OTHERS)
            ]
            await delete(bench.url, exchange=PAYMENTS.name)
            bench.fault()
            results = await asyncio.gather(*publishing, return_exceptions=True)
            with contextlib.suppress(ExchangeNotFoundError):
                await bench.publish(publisher, PAYMENTS.name, "pay")
                bench.problem("a publish to a deleted exchange did not raise")
            for at, result in enumerate(results):
                allowed = (str, ExchangeNotFoundError) if at % 2 == 0 else str
                bench.check(isinstance(result, allowed), f"a publish got {result!r}")
            await bench.all_ended()
            async with bench.goes_on(publisher, PAYMENTS.name, "pay"):
                await declare(client.connection.channel, service.topology)
    again = [key for key, _, redelivered in bench.journal.runs() if redelivered]
    bench.check(not again, f"{len(again)} messages were delivered again: a handler was cancelled")


@row(29, "dead letter queue missing or full", short=2)
async def dead_letters_away(bench: Bench) -> None:
    """The original stays in its queue until its copy is confirmed in the dead letter queue."""
    queue = "matrix.rejecting"
    dead, refusing = f"{queue}.dead", json.dumps({"max-length": 1, "overflow": "reject-publish"})
    arguments = ("-p", bench.room.name, "one", f"^{dead}$", refusing, "--apply-to", "queues")
    await asyncio.to_thread(bench.broker.ctl, "set_policy", *arguments)
    async with bench.client() as client:
        for number in range(bench.faults):
            await client.declare(dead, **{"x-delivery-limit": UNLIMITED_DELIVERIES})
            bench.fault()
            await (_full if number % 2 else _missing)(bench, client, queue)


async def _missing(bench: Bench, client: Client, queue: str) -> None:
    async with bench.serving(applying(bench.journal, queue)) as serving:
        await delete(bench.url, queue=f"{queue}.dead")
        began = time.monotonic()
        await _comes(bench, client, await _poison(bench, serving.publisher, queue), queue)
        bench.recovered(began)


async def _full(bench: Bench, client: Client, queue: str) -> None:
    await _fill(bench, client, f"{queue}.dead")
    key = await _held(bench, client, queue)
    began = time.monotonic()
    await bench.take_dead(client, f"{queue}.dead")
    async with bench.serving(applying(bench.journal, queue)):
        await _comes(bench, client, key, queue)
        bench.recovered(began)


async def _comes(bench: Bench, client: Client, key: str, queue: str) -> None:
    """Wait until the message is in the dead letter queue, where it must be once."""
    taken: list[str] = []

    async def is_there() -> bool:
        # The queue may be missing still.
        with contextlib.suppress(ChannelClosedError):
            taken.extend(await bench.take_dead(client, f"{queue}.dead"))
        return key in taken

    await eventually(is_there, what=f"{key} in the dead letters")
    bench.check(taken.count(key) == 1, f"{key} is in the dead letters more than once")


async def _poison(bench: Bench, publisher: Publisher, queue: str) -> str:
    return await bench.publish(publisher, "", queue, fields={"poison": "raises"})


async def _fill(bench: Bench, client: Client, queue: str) -> None:
    for _ in range(FILL):
        try:
            await bench.publish(client.publisher, "", queue)
        except NackedError:
            return
    bench.problem(f"{queue} took {FILL} messages and was not full")


async def _held(bench: Bench, client: Client, queue: str) -> str:
    """Reject a message while the dead letters are full; it is in its queue when that ends."""
    seen = len(bench.logged())
    async with bench.serving(applying(bench.journal, queue), grace=0.1) as serving:
        key = await _poison(bench, serving.publisher, queue)
        words = f"message {key} is not published, and the original stays unacked"
        await eventually(lambda: words in bench.logged()[seen:], what=f"the log: {words!r}")

    async def is_back() -> bool:
        return await client.messages(queue) == 1

    await eventually(is_back, what="the original in its queue")
    return key
