"""States of processes that are not there, for tests of what shows them: as many as are wanted.

    async with simulated(url, processes=50, queues=500): ...

Each of the processes publishes its state as a real one does, with counters that rise. `queues` are
those of their handlers; with `declare=True` they are there on the broker, too, as classic queues,
and are deleted at the end. The states themselves, without a broker: `states`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

from mqkit import BrokerUrl
from mqkit.broker.connection import Connection
from mqkit.broker.states import states_channel
from mqkit.clock import monotonic, utc_now
from mqkit.drivers import named
from mqkit.drivers.base import DriverChannel
from mqkit.observability.states.publishing import state_message
from mqkit.observability.states.state import (
    ConnectionState,
    HandlerState,
    SagaCount,
    State,
    StoreState,
)

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def queue_name(number: int, stem: str = "simulated") -> str:
    """The name of a simulated queue."""
    return f"{stem}.q{number:03}"


def states(
    up: float,
    *,
    processes: int = 50,
    queues: int = 500,
    services: int = 5,
    every: float = 2.0,
    stem: str = "simulated",
    now: Callable[[], datetime] = utc_now,
) -> list[State]:
    """What so many processes say `up` seconds after their start.

    Process n runs service n modulo `services`, which share the queues evenly, a handler each.
    Every 7th handler is paused, every 5th fails at times, and every 11th has 4 partitions.
    """
    found = []
    for number in range(processes):
        service = number % services
        mine = [n for n in range(queues) if n % services == service]
        found.append(
            State(
                id=f"{number:016x}",
                service=f"{stem}-{service}",
                host=f"host-{number % 8}",
                pid=1000 + number,
                started_at=now() - timedelta(seconds=up),
                at=now(),
                up=up,
                every=every,
                phase="running",
                mqkit="0.1.0",
                server="RabbitMQ 4.3.6",
                problems=(f"queue {queue_name(0, stem)}: paused",) if service == 0 else (),
                handlers=tuple(_handler(each, number, up, stem) for each in mine),
                published={"confirmed": int(up * 50), "unroutable": int(up / 10)},
                connections=(
                    ConnectionState("consume", is_up=True, opened=1),
                    ConnectionState("publish", is_up=True, opened=1),
                ),
                store=StoreState(
                    is_up=True,
                    waiting=service * 10,
                    oldest=1.5,
                    sagas=(SagaCount("Settlement", "running", 3),),
                )
                if service % 2
                else None,
            )
        )
    return found


def _handler(number: int, process: int, up: float, stem: str) -> HandlerState:
    queue = queue_name(number, stem)
    handled, failed = int(up * (1 + number % 9)), int(up) if number % 5 == 0 else 0
    is_paused, partitions = number % 7 == 0, 4 if number % 11 == 0 else 0
    return HandlerState(
        handler=f"shop.{stem}.handle_{number:03}",
        queue=queue,
        acked=handled,
        retried=failed,
        dead_lettered=failed // 10,
        runs=handled + failed,
        seconds=handled * 0.004,
        in_flight=number % 3,
        pauses=int(is_paused),
        consumers={"paused" if is_paused else "consuming": partitions or 1},
        because=("ConnectionRefusedError in pay.py:12, 5 times",) if is_paused else (),
        partitions=partitions,
        owned={f"{queue}.{process % 4}": 1.0} if partitions else {},
    )


@contextlib.asynccontextmanager
async def simulated(
    url: str,
    *,
    processes: int = 50,
    queues: int = 500,
    services: int = 5,
    every: float = 2.0,
    stem: str = "simulated",
    declare: bool = False,
) -> AsyncIterator[None]:
    """Publish the states of such processes while the block runs."""
    connection = Connection(BrokerUrl.parse(url), name="simulated states", driver=named())
    await connection.open(10)
    names = [queue_name(number, stem) for number in range(queues)] if declare else []
    try:
        await _declare(connection, names)
        channel = await states_channel(connection.channel)
        began = monotonic()

        def say() -> None:
            up = 60.0 + monotonic() - began
            for each in states(
                up, processes=processes, queues=queues, services=services, every=every, stem=stem
            ):
                channel.publish(state_message(each))

        say()
        saying = asyncio.create_task(_again(say, every))
        try:
            yield
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
            await _delete(connection, names)
    finally:
        await connection.close()


async def _again(say: Callable[[], None], every: float) -> None:
    while True:
        await asyncio.sleep(every)
        say()


async def _declare(connection: Connection, names: list[str]) -> None:
    channel: DriverChannel = await connection.channel()
    for start in range(0, len(names), 50):
        some = names[start : start + 50]
        await asyncio.gather(
            *(channel.declare_queue(n, arguments={"x-queue-type": "classic"}) for n in some)
        )


async def _delete(connection: Connection, names: list[str]) -> None:
    channel = await connection.channel()
    for start in range(0, len(names), 50):
        await asyncio.gather(*(channel.delete_queue(n) for n in names[start : start + 50]))
