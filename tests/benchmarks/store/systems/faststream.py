"""FastStream with SQLAlchemy: the handler's INSERT alone. It has no inbox and no outbox."""

from __future__ import annotations

import asyncio

from faststream import AckPolicy
from sqlalchemy.ext.asyncio import create_async_engine

from mqkit.cli.loop import runner
from tests.benchmarks.side_by_side.systems import faststream
from tests.benchmarks.side_by_side.systems.base import GIVE_UP, PREFETCH, Order, ready
from tests.benchmarks.store.systems.base import Meter, Program, StoreJob, row_of, run
from tests.benchmarks.store.systems.tables import INSERT

CONNECTIONS = 20

SETTINGS = (
    f"SQLAlchemy on asyncpg, a pool of {CONNECTIONS} connections, engine.begin() around the "
    f"INSERT; prefetch {PREFETCH}, AckPolicy.REJECT_ON_ERROR (the default: acknowledged after the "
    "handler), logger=None. No inbox, no outbox. On uvloop."
)


async def handle(job: StoreJob) -> None:
    """Run its broker until all is committed; the ack of each follows."""
    done = asyncio.Event()
    meter = Meter(job, done.set)
    engine = create_async_engine(job.database, pool_size=CONNECTIONS, max_overflow=0)
    broker = faststream.broker_of(job)

    async def post(order: Order) -> None:
        meter.began()
        async with engine.begin() as connection:
            await connection.execute(INSERT, row_of(order))
        meter.done()

    broker.subscriber(faststream.queue_of(job), ack_policy=AckPolicy.REJECT_ON_ERROR)(post)
    async with asyncio.timeout(GIVE_UP), broker:
        await broker.start()
        ready()
        await done.wait()
    await engine.dispose()
    meter.tell()


def consume(job: StoreJob) -> None:
    """On uvloop, on which it is faster."""
    with runner(None) as on_loop:
        on_loop.run(handle(job))


def publish(job: StoreJob) -> None:
    """Publish with pipelined confirms."""
    with runner(None) as on_loop:
        on_loop.run(faststream.publish(job))


if __name__ == "__main__":
    packages = ("faststream", "aio-pika", "SQLAlchemy", "asyncpg", "uvloop")
    run(Program(lambda _: SETTINGS, packages, publish, consume))
