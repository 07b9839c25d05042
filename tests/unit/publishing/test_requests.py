"""How verdicts and replies meet, in whatever order they come; the rest is tested on brokers."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from mqkit import (
    ExchangeNotFoundError,
    NackedError,
    PublishTimeoutError,
    ReplyLostError,
    RequestTimeoutError,
    UnroutableError,
)
from mqkit.broker.connection import Connection
from mqkit.drivers.base import Closed, Incoming, Returned
from mqkit.message import Message, Properties
from mqkit.publishing.exchanges import Exchanges
from mqkit.publishing.outgoing import MessageIds
from mqkit.publishing.replies import DIRECT_REPLY_TO
from mqkit.publishing.requests import Requester
from tests.unit.publishing.fake_channel import FakeChannel


class World:
    """A connection that hands out such channels, and the requester on it."""

    blocked = None
    problem = None

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.confirmed: list[Message] = []
        self.requester = Requester(
            cast("Connection", self),
            Exchanges(),
            MessageIds(),
            window=10,
            on_confirmed=self.confirmed.append,
        )

    async def channel(self) -> FakeChannel:
        self.channels.append(FakeChannel())
        return self.channels[-1]

    async def blocking(self) -> None:
        await asyncio.Event().wait()

    async def ask(
        self, seconds: float = 5, message: Message | None = None
    ) -> asyncio.Task[Incoming]:
        """A request that is written and waits."""
        before = self.written
        message = message or Message("", "q", b"n", Properties(message_id="m"))
        task = asyncio.create_task(self.requester.ask(message, seconds))
        for _ in range(50):
            if self.written > before:
                return task
            await asyncio.sleep(0)
        raise AssertionError("nothing was written")

    @property
    def written(self) -> int:
        """Requests that were published, over all channels."""
        return sum(len(each.published) for each in self.channels if each.consumed)

    @property
    def asking(self) -> FakeChannel:
        """The channel of the requests that was opened last."""
        return [each for each in self.channels if each.consumed][-1]

    @property
    def pending(self) -> int:
        """Requests that are waited for."""
        channel = self.requester._channel._current
        return len(channel._asked) if channel else 0


@pytest.fixture
async def world() -> World:
    return World()


async def test_requests_are_written_where_their_replies_come(world: World) -> None:
    """On the channel that consumes the direct replies without acks, mandatory, each by its id."""
    tasks = [await world.ask() for _ in range(3)]
    assert world.asking.consumed == [(DIRECT_REPLY_TO, True)]
    properties = [each.properties for each in world.asking.published]
    assert {each.reply_to for each in properties} == {DIRECT_REPLY_TO}
    assert len({each.correlation_id for each in properties}) == 3
    assert all(each.mandatory for each in world.asking.published)
    world.asking.on_confirm(3, True, True)
    for number in (2, 3, 1):
        world.asking.reply(number, b"%d" % number)
    assert [(await task).body for task in tasks] == [b"1", b"2", b"3"]
    assert len(world.confirmed) == 3
    assert world.pending == 0


async def test_a_reply_before_its_confirm_is_enough(world: World) -> None:
    """It is not waited for then, nor does the late confirm, nack or close change anything."""
    for late in (True, False, None):
        task = await world.ask()
        number = len(world.asking.published)
        world.asking.reply(number, b"r")
        assert (await task).body == b"r"
        if late is not None:
            world.asking.on_confirm(number, False, late)
    world.asking.end(Closed(0, "lost"))
    assert len(world.confirmed) == 3


async def test_what_the_broker_refuses_has_no_reply_to_wait_for(world: World) -> None:
    """A nack and a return end the request at once."""
    task = await world.ask()
    world.asking.on_confirm(1, False, False)
    with pytest.raises(NackedError):
        await task
    task = await world.ask()
    sent = world.asking.published[-1]
    world.asking.on_return(Returned(312, "NO_ROUTE", "", "q", sent.properties))
    world.asking.on_confirm(2, False, True)
    with pytest.raises(UnroutableError):
        await task
    assert (world.pending, world.confirmed) == (0, [])


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_closed_channel_loses_the_reply(world: World, confirmed: bool) -> None:
    """Confirmed or not, the request is written once only, and its caller told what to do."""
    task = await world.ask()
    if confirmed:
        world.asking.on_confirm(1, False, True)
        await asyncio.sleep(0)
    first = world.asking
    first.end(Closed(0, "lost"))
    with pytest.raises(ReplyLostError, match="ask again under the same message_id") as caught:
        await task
    assert caught.value.message_id == "m"
    assert len(first.published) == 1
    again = await world.ask()
    assert world.asking is not first
    world.asking.reply(1, b"r")
    assert (await again).body == b"r"


async def test_only_an_unconfirmed_request_is_blamed(world: World) -> None:
    """A confirmed one to the same exchange is not why the channel closed: its reply is lost."""
    message = Message("", "q", b"n", Properties(message_id="m"))
    first = await world.ask(message=message)
    world.asking.on_confirm(1, False, True)
    second = await world.ask(message=message)
    world.asking.end(Closed(404, "NOT_FOUND - no exchange 'amq.default' in vhost '/'"))
    with pytest.raises(ReplyLostError):
        await first
    with pytest.raises(ExchangeNotFoundError):
        await second


async def test_a_cancelled_consumer_of_replies_loses_them(world: World) -> None:
    """Nothing can come any more, so the callers are told, and the next one gets a new channel."""
    task = await world.ask()
    first = world.asking
    first.on_cancel()
    with pytest.raises(ReplyLostError):
        await task
    await world.ask()
    assert world.asking is not first
    await world.requester.close()


async def test_the_timeout_says_how_far_it_came(world: World) -> None:
    """Unconfirmed, it is a publish's timeout; confirmed, a request's. Neither stays pending."""
    task = await world.ask(0.05)
    with pytest.raises(PublishTimeoutError, match="may be stored"):
        await task
    task = await world.ask(0.05)
    world.asking.on_confirm(2, False, True)
    with pytest.raises(RequestTimeoutError, match=r"no reply within 0.05 s"):
        await task
    assert world.pending == 0


async def test_strange_replies_are_dropped(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Without a correlation id, with a foreign one, or a second and a late one."""
    caplog.set_level(logging.DEBUG, "mqkit.publishing.requests")
    task = await world.ask()
    for correlation_id in (None, "", "foreign"):
        properties = Properties(correlation_id=correlation_id)
        world.asking.on_reply(Incoming(1, False, "", "", properties, b"x"))
    world.asking.reply(1, b"1")
    world.asking.reply(1, b"2")
    assert (await task).body == b"1"
    world.asking.reply(1, b"3")
    assert caplog.text.count("nobody waits for") == 5


async def test_a_cancelled_caller_is_forgotten(world: World) -> None:
    """Before its confirm and after it, and what comes later harms nobody."""
    for confirm_first in (True, False):
        task = await world.ask()
        number = len(world.asking.published)
        if confirm_first:
            world.asking.on_confirm(number, False, True)
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.pending == 0
        world.asking.on_confirm(number, False, True)
        world.asking.reply(number, b"late")
