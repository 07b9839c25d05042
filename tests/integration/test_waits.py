"""What is sent ahead waits for a part of the consumer timeout only, and is then sent anew."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from mqkit import BrokerUrl, Delivery, Queue, Retry, Runtime, Service, topology
from mqkit.broker.declare import declare
from mqkit.consuming.pausing import waits
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, eventually

TIMEOUT = 2.0
"""Seconds: the consumer timeout."""


class Body(BaseModel):
    """One of an account's."""

    account: str = "a"


@pytest.mark.parametrize(
    ("queue", "options"),
    [
        ({}, {}),
        ({"type": "classic"}, {}),
        ({"partitions": 1}, {"order_by": "account"}),
        ({"arguments": {"x-single-active-consumer": True}}, {}),
    ],
    ids=["quorum", "classic", "ordered", "single"],
)
async def test_a_message_that_waits_is_given_back_before_the_broker_takes_it(
    broker: Broker,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    queue: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """All run once, though all of them together take longer than the consumer timeout."""
    monkeypatch.setattr(topology, "DEFAULT_CONSUMER_TIMEOUT", TIMEOUT)
    runs, began = Counter[str | None](), dict[str | None, float]()
    made = Queue(f"{name}.q", **queue)
    service = Service(name, retry=Retry.never())
    ready: list[int] = []
    loop = asyncio.get_running_loop()

    @service.handler(made, prefetch=6, concurrency=1, **options)
    async def handle(body: Body, delivery: Delivery) -> None:
        runs[delivery.message_id] += 1
        began[delivery.message_id] = loop.time()
        await asyncio.sleep(0.6)
        assert not delivery.lost

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        for n in range(6):
            await client.publisher.publish("", made.name, Body(), message_id=str(n))
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            while len(runs) < 6:
                ready.append(await client.messages(made.name))
                await asyncio.sleep(0.05)
                assert loop.time() - min(began.values(), default=loop.time()) < 20
        assert await client.messages(made.dead_queue) == 0
    assert set(runs.values()) == {1}
    waiting = ready[len(ready) // 2 :]
    assert max(waiting) >= 1, "it had been given back while others ran"


async def test_one_id_for_all_is_said(
    broker: Broker, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with the id escaped, and what to do."""
    monkeypatch.setattr(waits, "EVERY", 0.05)
    service, handled = Service(name, retry=Retry.never()), list[bytes]()

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes) -> None:
        await asyncio.sleep(0.05)
        handled.append(body)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        for _ in range(20):
            await client.publisher.publish("", f"{name}.q", b"x", message_id="all\n\x1b[2J")
        await eventually(lambda: len(handled) == 20)
    (said,) = (r.getMessage() for r in caplog.records if "has the same id" in r.getMessage())
    assert "'all\\n\\x1b[2J'" in said
    assert "message_id" in said
