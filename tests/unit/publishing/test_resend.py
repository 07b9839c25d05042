"""What is written again after a verdict in doubt, and what is known of it in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from mqkit import ExchangeNotFoundError, NackedError, PublishRefusedError, UnroutableError
from mqkit.broker.connection import Connection
from mqkit.drivers.base import Closed, Returned
from mqkit.message import Message, Properties
from mqkit.publishing.exchanges import Exchanges
from mqkit.publishing.sender import Sender
from tests.unit.publishing.fake_channel import FakeChannel

ANOTHER = Closed(404, "NOT_FOUND - no exchange 'another' in vhost '/'")
SOMEBODY = Closed(406, "PRECONDITION_FAILED - it does not say over what")
LOST = Closed(0, "the stream was lost")


class World:
    """A connection that hands out fake channels, and a sender on it."""

    name = "test"
    blocked = None
    problem = None

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.exchanges = Exchanges()
        self.sender = Sender(cast("Connection", self), self.exchanges, window=10)

    async def channel(self) -> FakeChannel:
        self.channels.append(FakeChannel())
        return self.channels[-1]

    async def blocking(self) -> None:
        await asyncio.Event().wait()

    def send(self, exchange: str = "", message_id: str = "m") -> asyncio.Task[None]:
        message = Message(exchange, "q", b"body", Properties(message_id=message_id))
        return asyncio.create_task(self.sender.send(message, 5))

    @property
    def written(self) -> list[tuple[FakeChannel, int, str | None]]:
        """Where each message was written, as which publish, and its id; probes left out."""
        return [
            (channel, number, message.properties.message_id)
            for channel in self.channels
            for number, message in enumerate(channel.published, 1)
            if message.body != b"?"
        ]

    async def write(self, count: int = 1) -> tuple[FakeChannel, int]:
        """Wait until so many were written in all; where the last one was, and its number."""
        for _ in range(100):
            if len(self.written) >= count:
                channel, number, _ = self.written[-1]
                return channel, number
            await asyncio.sleep(0)
        raise AssertionError(f"{len(self.written)} were written, not {count}")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.sender.close()


def returned(channel: FakeChannel, number: int) -> None:
    """Return a publish, and confirm it, as the broker does with what it cannot route."""
    properties = channel.published[number - 1].properties
    channel.on_return(Returned(312, "NO_ROUTE", "", "q", properties))
    channel.confirm(number)


@pytest.mark.parametrize("why", [LOST, ANOTHER], ids=["lost", "another"])
async def test_what_is_lost_is_written_again(world: World, why: Closed) -> None:
    """With its connection, or with a channel that closed over another message's exchange."""
    sending = world.send()
    channel, _ = await world.write()
    channel.end(why)
    channel, number = await world.write(2)
    channel.confirm(number)
    await sending
    assert [message_id for _, _, message_id in world.written] == ["m", "m"]


@pytest.mark.parametrize("why", [LOST, ANOTHER, SOMEBODY], ids=["lost", "another", "somebody"])
async def test_a_refusal_after_a_loss_says_that_it_may_be_stored(world: World, why: Closed) -> None:
    """The first verdict was lost: the broker may have taken the message then."""
    sending = world.send()
    channel, number = await world.write()
    channel.end(why)
    channel, number = await world.write(2)
    returned(channel, number)
    with pytest.raises(UnroutableError) as caught:
        await sending
    assert caught.value.may_be_stored


async def test_a_refusal_at_once_is_certain(world: World) -> None:
    """The message is not stored."""
    sending = world.send()
    returned(*await world.write())
    with pytest.raises(UnroutableError) as caught:
        await sending
    assert not caught.value.may_be_stored


async def test_each_suspect_is_sent_alone(world: World) -> None:
    """Where the broker does not say over what it closed a channel, the guilty one is found."""
    sending = [world.send(message_id="good"), world.send(message_id="bad")]
    channel, _ = await world.write(2)
    channel.end(SOMEBODY)
    alone, number = await world.write(3)
    assert len(world.written) == 3, "one at a time"
    alone.confirm(number)
    await sending[0]
    alone, _ = await world.write(4)
    alone.end(SOMEBODY)
    with pytest.raises(PublishRefusedError) as caught:
        await sending[1]
    assert not caught.value.may_be_stored
    assert [message_id for _, _, message_id in world.written] == ["good", "bad", "good", "bad"]
    assert len({channel for channel, _, _ in world.written}) == 3


async def test_a_suspect_that_is_lost_alone_is_written_again(world: World) -> None:
    """On the channel for all, once there is one."""
    sending = world.send()
    channel, _ = await world.write()
    channel.end(SOMEBODY)
    alone, _ = await world.write(2)
    alone.end(LOST)
    channel, number = await world.write(3)
    channel.confirm(number)
    await sending


async def test_a_suspect_that_is_nacked_alone_is_told_so(world: World) -> None:
    """It is not written a third time."""
    sending = world.send()
    channel, _ = await world.write()
    channel.end(SOMEBODY)
    alone, number = await world.write(2)
    alone.confirm(number, acked=False)
    with pytest.raises(NackedError):
        await sending
    assert len(world.written) == 2


async def test_an_exchange_that_is_gone_is_asked_for_again(world: World) -> None:
    """Before the next message to it: publishing to it would close the channel for all others."""
    sending = world.send("orders")
    channel, _ = await world.write()
    channel.end(SOMEBODY)
    alone, _ = await world.write(2)
    other = world.send("orders")
    await world.write(3)  # the channel for all is open again, and knows the exchange
    asked = sum(len(each.asked_for) for each in world.channels)
    alone.end(Closed(404, "NOT_FOUND - no exchange 'orders' in vhost '/'"))
    with pytest.raises(ExchangeNotFoundError) as caught:
        await sending
    assert caught.value.may_be_stored
    again = world.send("orders")
    for _ in range(50):
        await asyncio.sleep(0)
    assert sum(len(each.asked_for) for each in world.channels) == asked + 1
    for task in (other, again):
        task.cancel()
    await asyncio.gather(other, again, return_exceptions=True)
