"""What is written again after a verdict in doubt, and what is known of it in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
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


NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


class World:
    """A connection that hands out fake channels, and a sender on it."""

    name = "test"
    blocked = None
    problem = None
    generation = 1

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.exchanges = Exchanges()
        self.now = NOON
        self.refusals: dict[str, Closed] = {}
        self.missing: set[str] = set()
        self.sender = Sender(
            cast("Connection", self), self.exchanges, window=10, clock=lambda: self.now
        )

    async def channel(self) -> FakeChannel:
        channel = FakeChannel()
        channel.refusals, channel.missing = self.refusals, self.missing
        self.channels.append(channel)
        return channel

    async def blocking(self) -> None:
        await asyncio.Event().wait()

    def send(
        self, exchange: str = "", message_id: str = "m", delay: float | None = None
    ) -> asyncio.Task[None]:
        due = None if delay is None else self.now + timedelta(seconds=delay)
        message = Message(exchange, "q", b"body", Properties(message_id=message_id), due=due)
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


def held(message: Message) -> int:
    """For how many ticks the ladder holds a message."""
    headers = message.properties.headers
    return sum(
        2 ** int(name.removeprefix("mqkit-hold-"))
        for name, is_held in headers.items()
        if name.startswith("mqkit-hold-") and is_held
    )


async def test_what_is_held_is_written_again_with_what_is_left_of_its_delay(world: World) -> None:
    """Each write enters the ladder for the time until it is due; past that, it goes straight on."""
    sending = world.send(delay=60)
    writes: list[Message] = []
    for seconds in (20.25, 60.0):
        channel, number = await world.write(len(writes) + 1)
        writes.append(channel.published[number - 1])
        world.now = NOON + timedelta(seconds=seconds)
        channel.end(LOST)
    channel, number = await world.write(3)
    writes.append(channel.published[number - 1])
    channel.confirm(number)
    await sending
    assert [held(message) for message in writes] == [600, 398, 0]
    assert [message.routing_key for message in writes] == ["q"] * 3
    assert [message.exchange.partition(".later.")[0] for message in writes] == [
        "mqkit.delay.v1",
        "mqkit.delay.v1",
        "",
    ]


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1)])
async def test_a_clock_that_is_set_changes_no_delay(world: World, jump: timedelta) -> None:
    """What waits to be written is held for what is left of its delay on the monotonic clock."""
    now = asyncio.get_running_loop().time()
    message = Message("", "q", b"body", due=NOON + timedelta(seconds=60), due_after=now + 60)
    world.now = NOON + jump
    sending = asyncio.create_task(world.sender.send(message, 5))
    channel, number = await world.write()
    assert 550 < held(channel.published[number - 1]) <= 601
    channel.confirm(number)
    await sending


async def test_a_part_of_the_ladder_that_is_gone_is_declared_again_once(world: World) -> None:
    """What the ladder returns is written again; returned twice, it is an error of the message."""
    sending = world.send(delay=60)
    for count in (1, 2):
        channel, number = await world.write(count)
        returned(channel, number)
    with pytest.raises(UnroutableError, match=r"to the default exchange .* held until it is due"):
        await sending
    assert len(world.written) == 2
    declared = [each.name for channel in world.channels for each in channel.declared]
    assert declared.count("mqkit.delay.v1.due") == 2


async def test_who_may_not_declare_the_ladder_is_told_which_permission_is_missing(
    world: World,
) -> None:
    """The publish is refused, and the error names the message and what it takes."""
    world.refusals["mqkit.delay.v1.due"] = Closed(403, "ACCESS_REFUSED")
    world.missing.add("mqkit.delay.v1.due")
    with pytest.raises(PublishRefusedError, match=r"message m .*configure, write and read what"):
        await world.send(delay=60)
    assert world.written == []
