"""Rows 10, 11, 12, 14, 15 and 16: what networks do, through a proxy before the broker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time

from mqkit import Runtime
from mqkit.errors import ConnectError, ConnectionLostError, PublishError
from mqkit.settings import DEFAULT_HEARTBEAT
from mqkit.testing.proxy.proxy import Direction, TcpProxy
from tests.faults.matrix.bench import RECOVERY_BUDGET, RECOVERY_LIMIT
from tests.faults.matrix.links import SILENCE, all_noticed, connections, heartbeat, noticed_within
from tests.faults.matrix.row import Bench, row
from tests.faults.matrix.services import DRIVERS, applying
from tests.support import eventually

WAYS: tuple[Direction, ...] = ("to_broker", "to_client")

CONNECT = (1.0, 10.0)
"""Seconds of `connect_timeout`, in the short and the long form."""

SLOW = (2.0, 0.05, 1.0, 0.5, 0.2)
"""Seconds that each piece is delayed, at mqkit's own heartbeat."""

FLIPPED: dict[Direction, tuple[int, ...]] = {
    "to_client": (3, 0, 6, 1, 5, 2, 4),
    "to_broker": (3, 0),
}
"""Bytes of a frame's header, which are its type, its channel, and four of its size (AMQP 0-9-1,
section 2.3.5).

To the broker only those that it can tell. Where a size is wrong and still under `frame_max`,
RabbitMQ (4.0.5, 4.3.6) waits for the rest for as long as heartbeats come, and sends its own.
"""

GARBLED = 5
"""Publishes into a garbled stream."""

GARBLED_FOR = 0.3
"""Seconds in which the flipped byte must have passed, if nothing else tells of it."""


def half(count: int) -> int:
    """For one of two drivers, or directions, rounded up."""
    return -(-count // 2)


async def serve(
    stack: contextlib.AsyncExitStack, bench: Bench, url: str, count: int, prefix: str
) -> list[tuple[Runtime, str]]:
    """So many services, each with its queue, on the drivers in turn."""
    served = []
    for number in range(count):
        queue = f"{prefix}.{number}"
        service = applying(bench.journal, queue)
        runtime = bench.serving(service, url, driver=DRIVERS[number % len(DRIVERS)])
        served.append((await stack.enter_async_context(runtime), queue))
    return served


@row(10, "broker accepts and says nothing", brokers=("3.10", "4.0", "4.3"), short=2)
async def accepts_only(bench: Bench) -> None:
    """Each connection attempt ends with an error within its timeout; then it connects."""
    timeout = CONNECT[not bench.short]
    queue = "matrix.mute"

    async def attempt(proxy: TcpProxy, driver: str) -> None:
        began = time.monotonic()
        url = bench.at(proxy, connect_timeout=timeout)
        link = bench.connection(url, driver)
        try:
            await link.open(0.0)
        except ConnectError:
            took = time.monotonic() - began
            bench.check(took < timeout + 1.0, f"{driver}: connecting took {took:.1f} s to fail")
        else:
            bench.problem(f"{driver}: it connected to a broker that says nothing")
            await link.close()

    with bench.proxy() as proxy:
        async with bench.serving(applying(bench.journal, queue)) as serving:
            proxy.ignore_connections()
            drivers = itertools.islice(itertools.cycle(DRIVERS), bench.faults)
            await asyncio.gather(*(attempt(proxy, driver) for driver in drivers))
            bench.fault(bench.faults)
            proxy.accept_connections()
            async with bench.client(bench.at(proxy)) as client:
                await bench.applied(await bench.publish(client.publisher, "", queue))
            await bench.applied(await bench.publish(serving.publisher, "", queue))


@row(11, "black hole mid-stream, each direction", short=4)
async def black_hole(bench: Bench) -> None:
    """Bytes of one direction vanish under load; both connections of a service must be given up."""
    await asyncio.gather(*(_black_hole(bench, way, half(bench.faults)) for way in WAYS))


async def _black_hole(bench: Bench, way: Direction, count: int) -> None:
    beat = heartbeat(bench)
    async with contextlib.AsyncExitStack() as stack:
        proxy = stack.enter_context(bench.proxy())
        url = bench.at(proxy, heartbeat=beat, connect_timeout=beat)
        served = await serve(stack, bench, url, count, f"matrix.hole.{way}")
        async with contextlib.AsyncExitStack() as loads:
            for runtime, queue in served:
                load = bench.load(
                    runtime.publisher, "", queue, writers=1, tolerate=(ConnectionLostError,)
                )
                await loads.enter_async_context(load)
            for runtime, queue in served:
                await bench.applied(await bench.publish(runtime.publisher, "", queue))
            began = time.monotonic()
            proxy.drop(way)
            bench.fault(count)
            await all_noticed(bench, connections(r for r, _ in served), began, f"black hole {way}")
            proxy.heal()
            proxy.cut()  # the attempts to connect that lead nowhere, too
            healed = time.monotonic()
            for runtime, queue in served:
                await bench.applied(await bench.publish(runtime.publisher, "", queue))
            bench.recovered(healed)
        await bench.all_ended()


@row(12, "confirm lost", short=4)
async def confirm_lost(bench: Bench) -> None:
    """The message arrives and its confirm does not: it is published again under the same id."""
    queue = "matrix.confirm"
    async with bench.serving(applying(bench.journal, queue)):
        for driver in DRIVERS:
            with bench.proxy() as proxy:
                async with bench.client(proxy.url, driver=driver) as client:
                    for _ in range(half(bench.faults)):
                        await bench.publish(client.publisher, "", queue)
                        proxy.drop("to_client")
                        key = bench.key()
                        publishing = asyncio.create_task(
                            bench.publish(client.publisher, "", queue, key=key)
                        )
                        await bench.applied(key)
                        bench.check(not publishing.done(), "a lost confirm arrived")
                        # In this order: a confirm that is late would come through in between.
                        proxy.cut()
                        proxy.heal()
                        bench.fault()
                        cut = time.monotonic()
                        await publishing
                        bench.recovered(cut)
                        await eventually(lambda key=key: len(bench.journal.runs(key)) == 2)  # type: ignore[misc]
                        ids = {message_id for _, message_id, _ in bench.journal.runs(key)}
                        bench.check(ids == {key}, f"it was published again under other ids: {ids}")
        await bench.all_ended()


@row(14, "reset and half-close", short=4)
async def reset(bench: Bench) -> None:
    """Under load, connections are closed, reset, and closed in one direction only."""
    faults = (
        lambda proxy: proxy.cut(reset=True),
        lambda proxy: proxy.half_close("to_broker"),
        lambda proxy: proxy.half_close("to_client"),
        lambda proxy: proxy.cut(),
    )
    for driver in DRIVERS:
        queue = f"matrix.reset.{driver}"
        with bench.proxy() as proxy:
            serving = bench.serving(applying(bench.journal, queue), proxy.url, driver=driver)
            async with serving as runtime:
                load = bench.load(runtime.publisher, "", queue, fields=lambda: {"seconds": 0.05})
                async with load:
                    for number in range(half(bench.faults)):
                        await bench.applied(await bench.publish(runtime.publisher, "", queue))
                        async with bench.goes_on(runtime.publisher, "", queue, RECOVERY_BUDGET):
                            faults[(number + DRIVERS.index(driver) * 2) % len(faults)](proxy)
                            bench.fault()
                await bench.all_ended()


@row(15, "slow network", short=4)
async def slow(bench: Bench) -> None:
    """Delays and one-byte pieces for longer than silence is borne; no connection is given up."""
    beat = heartbeat(bench)
    scale = beat / DEFAULT_HEARTBEAT
    async with contextlib.AsyncExitStack() as stack:
        served = []
        for number in range(bench.faults):
            proxy = stack.enter_context(bench.proxy())
            url = bench.at(proxy, heartbeat=beat, connect_timeout=beat)
            served += [
                (proxy, *each)
                for each in await serve(stack, bench, url, 1, f"matrix.slow.{number}")
            ]
        loads = await stack.enter_async_context(contextlib.AsyncExitStack())
        for number, (proxy, runtime, queue) in enumerate(served):
            await bench.applied(await bench.publish(runtime.publisher, "", queue))
            if number % 3 == 2:
                proxy.split(1)
            else:
                proxy.delay(SLOW[number % len(SLOW)] * scale)
            bench.fault()
            await loads.enter_async_context(
                bench.load(runtime.publisher, "", queue, writers=1, pause=0.1)
            )
        # There is nothing to wait for: what must not happen would have happened by then.
        await asyncio.sleep(SILENCE * beat)
        await loads.aclose()
        for proxy, runtime, _ in served:
            for link in connections([runtime]):
                bench.check(
                    link.is_up and link.generation == 1,
                    f"a slow connection was given up: {link.name}",
                )
            proxy.heal()
        await bench.all_ended()


@row(16, "garbled bytes", short=4)
async def garbled(bench: Bench) -> None:
    """Bits of a frame's header are flipped; every publish ends, and new connections come."""
    for driver in DRIVERS:
        queue = f"matrix.garbled.{driver}"
        with bench.proxy() as proxy:
            url = bench.at(proxy, heartbeat=heartbeat(bench))
            async with bench.serving(applying(bench.journal, queue), url, driver=driver) as runtime:
                for number in range(half(bench.faults)):
                    await _garble(bench, proxy, runtime, queue, number)
                await bench.all_ended()


async def _garble(bench: Bench, proxy: TcpProxy, runtime: Runtime, queue: str, number: int) -> None:
    way = WAYS[number % 2]
    at = FLIPPED[way][number // 2 % len(FLIPPED[way])]
    await bench.applied(await bench.publish(runtime.publisher, "", queue))
    old = [link._current.closed for link in connections([runtime]) if link._current]
    began = time.monotonic()
    proxy.garble(way, at=at, mask=random.randint(1, 0xFF))
    bench.fault()
    publishing = [
        asyncio.create_task(
            bench.publish(runtime.publisher, "", queue, timeout=noticed_within(bench))
        )
        for _ in range(GARBLED)
    ]
    await asyncio.wait(old, timeout=GARBLED_FOR)
    proxy.heal()
    for result in await asyncio.gather(*publishing, return_exceptions=True):
        ended = isinstance(result, str | PublishError)
        bench.check(ended, f"a publish into a garbled stream got {result!r}")
    key = await bench.publish(runtime.publisher, "", queue)
    await bench.applied(key, within=2 * RECOVERY_LIMIT)
    bench.recovered(began)
