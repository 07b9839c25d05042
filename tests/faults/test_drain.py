"""Draining: what was only prefetched goes back at once, and a silent broker cannot hold it up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import pytest

from mqkit import BrokerUrl, Delivery, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.support import connected, eventually, running


def service_of(name: str, release: asyncio.Event, began: list[str | None]) -> Service:
    """One that holds its message until it is released."""
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), prefetch=20, concurrency=1)
    async def hold(body: bytes, delivery: Delivery) -> None:
        began.append(delivery.message_id)
        await release.wait()

    return service


async def test_prefetched_messages_go_back_while_a_handler_still_runs(
    broker: Broker, name: str
) -> None:
    """What a stopping service had prefetched is handled by another before its own handler ends."""
    release, freed = asyncio.Event(), asyncio.Event()
    began: list[str | None] = []
    taken: list[str | None] = []
    freed.set()
    stop = asyncio.Event()
    async with connected(broker.url) as client:
        stopping = Runtime(service_of(name, release, began), BrokerUrl.parse(broker.url))
        running_ = asyncio.create_task(stopping.run(stop))
        await eventually(lambda: bool(stopping._consumers))
        for n in range(10):
            await client.publisher.publish("", f"{name}.q", b"x", message_id=str(n))
        await eventually(lambda: bool(began))

        async def all_prefetched() -> bool:
            return await client.messages(f"{name}.q") == 0

        await eventually(all_prefetched)
        stop.set()
        async with Runtime(service_of(name, freed, taken), BrokerUrl.parse(broker.url)):
            await eventually(lambda: len(taken) == 9, 5)
            assert not running_.done()
            release.set()
            await running_
        assert began == ["0"]
        assert sorted(map(str, taken)) == [str(n) for n in range(1, 10)]
        assert await client.messages(f"{name}.q") == 0


async def test_stopping_counts_one_delivery_at_most(broker: Broker, name: str) -> None:
    """What was prefetched and not begun gets no nearer to its delivery limit than by one."""
    async with connected(broker.url) as client:
        await declare(client.connection.channel, service_of(name, asyncio.Event(), []).topology)
        for n in range(10):
            await client.publisher.publish("", f"{name}.q", b"x", message_id=str(n))
        for _ in range(3):
            stop, release, began = asyncio.Event(), asyncio.Event(), list[str | None]()
            runtime = Runtime(service_of(name, release, began), BrokerUrl.parse(broker.url))
            task = asyncio.create_task(runtime.run(stop))
            await eventually(lambda began=began: bool(began))  # type: ignore[misc]
            stop.set()
            (consumer,) = runtime._consumers
            await eventually(lambda consumer=consumer: consumer._processor._stopped)  # type: ignore[misc]
            release.set()
            await task
        left = await client.take_all(f"{name}.q")
    counts = [message.properties.headers.get("x-delivery-count", 0) for message in left]
    assert len(counts) == 7
    assert all(isinstance(count, int) and count <= 3 for count in counts), counts


@pytest.mark.in_turn
async def test_a_silent_broker_does_not_hold_up_the_end(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """SIGTERM ends a service in time whose broker answers nothing any more."""
    out = tmp_path / "out"
    with (
        TcpProxy(broker.url) as proxy,
        running(
            "tests.faults.services:slow",
            proxy.url,
            tmp_path / "log",
            "--grace",
            "1",
            MQKIT_TEST_QUEUE=f"{name}.q",
            MQKIT_TEST_OUT=str(out),
        ) as process,
    ):
        await process.says("consuming")
        async with connected(broker.url) as client:
            await client.publisher.publish("", f"{name}.q", {"seconds": 60})
        await eventually(out.exists)
        proxy.stall()
        began = time.monotonic()
        process.send(signal.SIGTERM)
        assert await process.ends(60) == 1
        assert time.monotonic() - began < 10
        proxy.resume()


@pytest.mark.in_turn
async def test_a_broker_that_is_gone_does_not_hold_up_the_end(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """SIGTERM ends a service whose broker went away while it ran."""
    with contextlib.ExitStack() as stack:
        with TcpProxy(broker.url) as proxy:
            process = stack.enter_context(
                running(
                    "tests.faults.services:slow",
                    proxy.url,
                    tmp_path / "log",
                    MQKIT_TEST_QUEUE=f"{name}.q",
                )
            )
            await process.says("consuming")
        await process.says("connection lost")
        began = time.monotonic()
        process.send(signal.SIGTERM)
        assert await process.ends(30) == 0
        assert time.monotonic() - began < 5
