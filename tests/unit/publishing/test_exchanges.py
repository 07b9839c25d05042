"""What is declared before a publish, once, and what the broker may say to that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest

from mqkit import (
    ConfigurationError,
    Exchange,
    ExchangeMismatchError,
    ExchangeNotFoundError,
    PublishError,
    TopologyError,
)
from mqkit.drivers.base import Closed, DriverChannel
from mqkit.message import Message, Properties
from mqkit.publishing.exchanges import Exchanges
from tests.unit.publishing.fake_channel import FakeChannel

EVENTS = Exchange("events", arguments={"x-a": 1})
REFUSED = Closed(403, "ACCESS_REFUSED - configure access to exchange 'events' refused")
OTHERWISE = Closed(
    406,
    "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'events' in vhost '/': "
    "received 'topic' but current is 'fanout'",
)


class Broker:
    """Has exchanges, and gives channels to ask for them."""

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.missing: set[str] = {"events"}
        self.refusals: dict[str, Closed] = {}
        self.hidden = False
        self.exchanges = Exchanges()

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[DriverChannel]:
        """Open a channel for one question."""
        channel = FakeChannel()
        channel.missing, channel.refusals = self.missing, self.refusals
        channel.hides = self.hidden
        self.channels.append(channel)
        yield cast("DriverChannel", channel)
        await channel.close()

    async def find(self, name: str = "events") -> PublishError | None:
        """Ask, as before a message to that exchange."""
        message = Message(name, "key", b"", Properties(message_id="m"))
        return await self.exchanges.find(message, self.channel)

    @property
    def declared(self) -> list[Exchange]:
        return [each for channel in self.channels for each in channel.declared]


@pytest.fixture
async def broker() -> Broker:
    return Broker()


async def test_an_exchange_is_declared_once_for_all_who_wait(broker: Broker) -> None:
    """As the application says, arguments too; and it is known then."""
    broker.exchanges.note(EVENTS)
    assert await asyncio.gather(*(broker.find() for _ in range(5))) == [None] * 5
    assert broker.declared == [EVENTS]
    assert broker.exchanges.known == {"events"}
    broker.exchanges.note(EVENTS)
    assert broker.exchanges.known == {"events"}


@pytest.mark.parametrize("exchange", [None, Exchange("events", declare=False)])
async def test_what_others_declare_is_only_looked_for(
    broker: Broker, exchange: Exchange | None
) -> None:
    """An exchange by its name, or with declare=False, is missing until somebody has declared it."""
    if exchange is not None:
        broker.exchanges.note(exchange)
    assert isinstance(await broker.find(), ExchangeNotFoundError)
    broker.missing.clear()
    assert await broker.find() is None
    assert broker.declared == []


async def test_a_value_after_a_name_is_declared(broker: Broker) -> None:
    """Though the exchange is known to be there: it may be another than the value says."""
    broker.missing.clear()
    await broker.find()
    broker.exchanges.note(EVENTS)
    assert broker.exchanges.known == set()
    await broker.find()
    assert broker.declared == [EVENTS]


async def test_a_mismatch_says_what_differs(broker: Broker) -> None:
    """By an error that is one of publishing and one of topology; by name it can be published to."""
    broker.missing.clear()
    broker.refusals["events"] = OTHERWISE
    broker.exchanges.note(EVENTS)
    error = await broker.find()
    assert isinstance(error, ExchangeMismatchError)
    assert isinstance(error, TopologyError)
    assert not error.may_be_stored
    assert str(error) == (
        "message m to exchange 'events' with routing key 'key': exchange 'events': type is fanout "
        "on the broker, topic here; declare it alike, or delete the one on the broker; to publish "
        "to it as it is, give its name"
    )
    assert await broker.find() is None


async def test_a_user_who_may_not_declare_it_needs_it_to_be_there(broker: Broker) -> None:
    """It is missing: the error says why it was not declared. It is there: that is enough."""
    broker.refusals["events"] = REFUSED
    broker.exchanges.note(EVENTS)
    error = await broker.find()
    assert isinstance(error, ExchangeNotFoundError)
    assert "this user may not declare it (ACCESS_REFUSED - configure access" in str(error)
    broker.missing.clear()
    assert await broker.find() is None
    assert broker.exchanges.known == {"events"}


async def test_a_user_who_may_not_even_ask_has_the_publish_judged(broker: Broker) -> None:
    """And that is its end: what it says of a missing exchange is no reason to declare it again."""
    broker.refusals["events"] = REFUSED
    broker.hidden = True
    broker.exchanges.note(EVENTS)
    assert await broker.find() is None
    assert broker.exchanges.known == {"events"}
    assert not broker.exchanges.declares("events")
    broker.exchanges.forget("events")
    broker.refusals.clear()
    assert await broker.find() is None
    assert broker.declared == [EVENTS]
    assert broker.exchanges.declares("events")


async def test_a_lost_connection_says_nothing_of_an_exchange(broker: Broker) -> None:
    """It is asked for again on the next one."""
    broker.refusals["events"] = Closed(0, "the stream was lost")
    broker.exchanges.note(EVENTS)
    assert await broker.find() is None
    assert broker.exchanges.known == set()


async def test_a_channel_that_was_replaced_has_all_asked_for_again(broker: Broker) -> None:
    """The one before may have closed since an exchange was deleted."""
    broker.exchanges.note(EVENTS)
    await broker.find()
    broker.exchanges.forget()
    await broker.find()
    assert broker.declared == [EVENTS, EVENTS]


def test_a_check_refuses_before_anything_is_noted() -> None:
    """What may not be published to is not declared either."""

    def refuse(exchange: Exchange) -> None:
        raise ConfigurationError(f"not {exchange.name}")

    exchanges = Exchanges(refuse)
    with pytest.raises(ConfigurationError, match="not events"):
        exchanges.note(EVENTS)
    assert not exchanges.declares("events")
