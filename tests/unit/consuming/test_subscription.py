"""What a subscription knows of brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mqkit import Queue, Retry, Service
from mqkit.consuming import subscription
from mqkit.consuming.subscription import Subscription
from mqkit.errors import ChannelClosedError


class Channel:
    """A channel that notes what a subscription asks for."""

    is_open = True

    def __init__(self, fails: str = "") -> None:
        self.closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.calls: list[str] = []
        self.fails = fails
        self.deliver: list[Callable[[Any], None]] = []
        self.on_its_way = 0
        """The tag of a delivery that comes before the next answer to `qos`."""
        self.can_begin = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        async def done(*args: Any, **options: Any) -> SimpleNamespace:
            return SimpleNamespace(messages=0, consumers=0)

        return done

    async def qos(self, prefetch: int) -> None:
        self.calls.append(f"qos {prefetch}")
        if self.on_its_way:
            self.deliver[0](incoming(self.on_its_way))
            self.on_its_way = 0

    async def consume(
        self, queue: str, on_delivery: Callable[[Any], None], on_cancel: Any, *, arguments: Any
    ) -> str:
        self.calls.append(f"consume {queue} {arguments}")
        self.deliver.append(on_delivery)
        await self.can_begin.wait()
        if self.fails and len(self.deliver) == 2:
            await {"refused": self.refuse, "silent": asyncio.Event().wait}[self.fails]()
        return f"tag {len(self.deliver)}"

    async def cancel(self, tag: str) -> None:
        self.calls.append(f"cancel {tag}")

    async def refuse(self) -> None:
        raise ChannelClosedError(404, "no queue")

    async def close(self, *, in_order: bool = False) -> None:
        self.calls.append(f"close {in_order=}")
        self.is_open = False
        self.closed.set_result(SimpleNamespace(text="left"))


def incoming(tag: int, came_back: int = 0) -> Any:
    headers = {"x-delivery-count": came_back} if came_back else {}
    properties = SimpleNamespace(headers=headers, message_id="m")
    return SimpleNamespace(tag=tag, redelivered=bool(came_back), properties=properties)


class World:
    """A subscription to a partition, and what it did."""

    def __init__(self, server: str, arguments: Any, fails: str) -> None:
        service = Service("s", retry=Retry.never())

        @service.handler(Queue("q", partitions=2), order_by=lambda body: body)
        async def handle(body: str) -> None: ...

        async def opened() -> Channel:
            self.opening.set()
            await self.can_open.wait()
            self.channels.append(Channel(fails))
            self.channels[-1].can_begin = self.can_begin
            return self.channels[-1]

        self.opening, self.can_open = asyncio.Event(), asyncio.Event()
        self.can_begin = asyncio.Event()
        self.can_open.set()
        self.can_begin.set()
        self.channels: list[Channel] = []
        self.subscription = Subscription(
            cast(Any, SimpleNamespace(channel=opened, generation=1, server=server, is_up=True)),
            service.handlers[0],
            receive=lambda *_: None,
            on_lost=lambda _: None,
            declared_on=1,
            queue="q.0",
            arguments=arguments,
            give_back=lambda channel, tag: cast(Any, channel).calls.append(f"give back to {tag}"),
        )

    async def calls(self, how: str, deliveries: int, on_its_way: int = 0) -> list[str]:
        """Leave after so many deliveries, and return what the channel was asked for since."""
        running = asyncio.create_task(self.subscription.run())
        async with asyncio.timeout(10):
            while not (consumed := [each for each in self.channels if each.deliver]):
                await asyncio.sleep(0)
            [channel] = consumed  # others were opened for a look
            channel.calls.clear()
            for tag in range(1, deliveries + 1):
                channel.deliver[0](incoming(tag))
            channel.on_its_way = on_its_way
            leave = self.subscription
            await (leave.hold_less(1) if how == "hold_less" else leave.close())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return channel.calls


OWN = {"x-priority": 7}
FIRST = "consume q.0 {'x-priority': 1000000}"
LAST = "consume q.0 {'x-priority': -1}"
CLOSE = "close in_order=True"
HELD = [FIRST, LAST, "qos 100"]
NONE = [LAST, "qos 100"]


@pytest.mark.parametrize("how", ["hold_less", "close"])
@pytest.mark.parametrize(
    ("server", "arguments", "deliveries", "on_its_way", "calls"),
    [
        ("RabbitMQ 4.3.6", OWN, 2, 0, [*HELD, "give back to 2", CLOSE]),
        ("RabbitMQ 4.3.6", OWN, 2, 3, [*HELD, "give back to 3", CLOSE]),
        ("RabbitMQ 4.3.6", OWN, 0, 0, [*NONE, CLOSE]),
        ("RabbitMQ 4.3.6", OWN, 0, 1, [*NONE, *HELD, "give back to 1", CLOSE]),
        ("RabbitMQ 4.3.6", None, 2, 0, [CLOSE]),
        ("RabbitMQ 4.0.5", OWN, 2, 0, [CLOSE]),
    ],
)
async def test_who_leaves_a_partition_gives_back_what_came_and_what_was_on_its_way(
    how: str, server: str, arguments: Any, deliveries: int, on_its_way: int, calls: list[str]
) -> None:
    """By the close alone, or before it where RabbitMQ would keep who leaves with messages."""
    world = World(server, arguments, "")
    assert await world.calls(how, deliveries, on_its_way) == calls


async def test_who_leaves_a_partition_waits_for_the_consumer_that_it_is_starting() -> None:
    """Else one that it begins to leave would be the only one, and have the queue's messages."""
    world = World("RabbitMQ 4.3.6", OWN, "")
    world.can_begin.clear()
    running = asyncio.create_task(world.subscription.run())
    async with asyncio.timeout(10):
        while not (begun := [each for each in world.channels if each.deliver]):
            await asyncio.sleep(0)
        [channel] = begun
        channel.calls.clear()
        leaving = asyncio.create_task(world.subscription.close())
        for _ in range(10):
            await asyncio.sleep(0)
        assert channel.calls == []
        world.can_begin.set()
        await asyncio.gather(leaving, running)
    assert channel.calls == [*NONE, CLOSE]


async def test_who_handles_messages_alone_does_so_until_one_comes_that_never_came_back() -> None:
    """Its consumer is not replaced: what it holds would stay, and another process get the next."""
    world = World("RabbitMQ 4.0.5", None, "")
    running = asyncio.create_task(world.subscription.run())

    async def consumed(number: int) -> Channel:
        while len(begun := [each for each in world.channels if each.deliver]) < number:
            await asyncio.sleep(0)
        return begun[-1]

    async with asyncio.timeout(10):
        first = await consumed(1)
        first.deliver[0](incoming(1, came_back=15))
        alone = await consumed(2)
        assert alone.calls == ["qos 1", "consume q.0 None"]
        for tag, came_back in enumerate((16, 16, 1, 1), 1):
            alone.deliver[0](incoming(tag, came_back))
            for _ in range(10):
                await asyncio.sleep(0)
        assert alone.calls == ["qos 1", "consume q.0 None"]
        alone.deliver[0](incoming(5))
        last = await consumed(3)
        assert alone.calls[2:] == [CLOSE]
        assert last.calls == ["qos 100", "consume q.0 None"]
        await world.subscription.close()
        await running


@pytest.mark.parametrize(
    ("limit", "times"),
    [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (10, 5), (12, 7), (20, 15), (40, 30)],
)
def test_a_message_is_suspect_while_enough_deliveries_are_left_for_its_neighbours(
    limit: int, times: int
) -> None:
    """A quarter of the limit, or five where that is more, or half of it where that is less."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q", partitions=2, delivery_limit=limit), order_by=lambda body: body)
    async def handle(body: str) -> None: ...

    [handler] = service.handlers
    assert subscription.is_suspect(handler, {"x-delivery-count": times})
    assert not subscription.is_suspect(handler, {"x-delivery-count": times - 1})


@pytest.mark.parametrize("fails", ["refused", "silent"])
async def test_a_channel_is_closed_also_where_the_broker_does_not_answer(
    fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is unsettled is the broker's again then, too."""
    monkeypatch.setattr(subscription, "LEAVE_TIMEOUT", 0.01)
    world = World("RabbitMQ 4.3.6", OWN, fails)
    assert await world.calls("close", 2) == [FIRST, "close in_order=True"]


async def test_who_is_stopped_while_it_attaches_begins_to_consume_nothing() -> None:
    """It would be sent messages that nobody gives back before its connection ends."""
    world = World("RabbitMQ 4.3.6", OWN, "")
    world.can_open.clear()
    running = asyncio.create_task(world.subscription.run())
    async with asyncio.timeout(10):
        await world.opening.wait()
        await world.subscription.close()
        world.can_open.set()
        await running
    assert world.channels[-1].calls == ["close in_order=False"]
    assert not any(each.deliver for each in world.channels)
