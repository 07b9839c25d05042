"""What a subscription knows of brokers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mqkit import Queue, Retry, Service
from mqkit.consuming.subscription import Subscription, nacks_are_free


@pytest.mark.parametrize(
    ("server", "free"),
    [
        ("RabbitMQ 3.13.7", False),
        ("RabbitMQ 4.0.5", False),
        ("RabbitMQ 4.2.10", False),
        ("RabbitMQ 4.3.0", True),
        ("RabbitMQ 4.10.1", True),
        ("RabbitMQ 5.0.0-beta.1", True),
        ("LavinMQ 4.3.0", False),
        ("mqkit 0.1.0", False),
        ("RabbitMQ ?", False),
        ("no broker", False),
    ],
)
def test_a_nack_counts_towards_no_limit_from_rabbitmq_4_3_on(server: str, *, free: bool) -> None:
    """Of a broker that says nothing of it, it is taken to count."""
    assert nacks_are_free(server) is free


class Channel:
    """A channel that takes whatever a subscription asks for, and notes how it is closed."""

    is_open = True

    def __init__(self) -> None:
        self.closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.left: list[dict[str, bool]] = []

    def __getattr__(self, name: str) -> Any:
        async def done(*args: Any, **options: Any) -> SimpleNamespace:
            return SimpleNamespace(messages=0, consumers=0)

        return done

    async def close(self, **how: bool) -> None:
        self.left.append(how)
        self.is_open = False
        self.closed.set_result(SimpleNamespace(text="left"))


@pytest.mark.parametrize(("server", "nacks"), [("RabbitMQ 4.3.6", True), ("RabbitMQ 4.0.5", False)])
@pytest.mark.parametrize("how", ["hold_less", "close"])
async def test_a_single_active_consumer_leaves_by_giving_back_in_order(
    how: str, server: str, nacks: bool
) -> None:
    """Whether it stops or is to hold less; by nacks, where they count towards no limit."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q", partitions=1), order_by=lambda body: body)
    async def handle(body: str) -> None: ...

    channels: list[Channel] = []

    async def opened() -> Channel:
        channels.append(Channel())
        return channels[-1]

    subscription = Subscription(
        cast(Any, SimpleNamespace(channel=opened, generation=1, server=server, is_up=True)),
        service.handlers[0],
        receive=lambda *_: None,
        on_lost=lambda _: None,
        declared_on=1,
    )
    running = asyncio.create_task(subscription.run())
    async with asyncio.timeout(10):
        while not subscription.is_attached:
            await asyncio.sleep(0)
        await (subscription.hold_less(1) if how == "hold_less" else subscription.close())
    # Those that were opened for a look are closed as they are.
    assert [way for each in channels for way in each.left if way] == [
        {"in_order": True, "nacks": nacks}
    ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
