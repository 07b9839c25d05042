"""A publisher's life and what it does with an exchange, on a fake driver; the rest on brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from mqkit import (
    AuthenticationError,
    BrokerUrl,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    Exchange,
    ExchangeNotFoundError,
    OptionError,
    Outgoing,
    Publisher,
    PublisherClosedError,
    Queue,
    ReplyLostError,
)
from mqkit.broker.connection import Connection
from mqkit.drivers.base import Closed, Driver, DriverConnection
from mqkit.message import Message
from mqkit.publishing.window import DEFAULT_TIMEOUT
from mqkit.settings import Host
from tests.unit.publishing.fake_channel import FakeChannel

URL = "amqp://web:s3cr3t@h/shop"


class Opened:
    """A connection to the fake broker."""

    server = "RabbitMQ of the test"

    def __init__(self, broker: Broker) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._broker = broker
        self._channels: list[FakeChannel] = []

    async def channel(self) -> FakeChannel:
        """Open a channel."""
        if self.closed.done():
            raise self.closed.result().error()
        channel = AnsweringChannel(self._broker)
        self._channels.append(channel)
        self._broker.channels.append(channel)
        return channel

    async def close(self) -> None:
        """Close it, and its channels with it."""
        for channel in self._channels:
            channel.end(Closed(0, "closed"))
        if not self.closed.done():
            self.closed.set_result(Closed(0, "closed"))


class AnsweringChannel(FakeChannel):
    """Confirms what is published, unless the broker is told to keep silent."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._broker = broker
        self.missing, self.refusals = broker.missing, broker.refusals

    def publish(self, message: Any, extra_headers: Any = None) -> int:
        """Publish it."""
        number = super().publish(message, extra_headers)
        if message.body != b"?" and not self._broker.is_silent:
            asyncio.get_running_loop().call_soon(self.confirm, number)
        return number


class Broker:
    """A driver and what it connects to."""

    name = "fake"

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.connections: list[Opened] = []
        self.names: list[str] = []
        self.error: Exception | None = None
        self.is_silent = False
        self.missing: set[str] = set()
        self.refusals: dict[str, Closed] = {}

    async def connect(
        self, url: BrokerUrl, host: Host, *, name: str, on_blocked: Callable[[str | None], None]
    ) -> DriverConnection:
        self.names.append(name)
        if self.error is not None:
            raise self.error
        self.connections.append(Opened(self))
        return cast("DriverConnection", self.connections[-1])

    @property
    def written(self) -> list[Any]:
        """What was published, probes left out."""
        return [m for channel in self.channels for m in channel.published if m.body != b"?"]

    def publisher(self, **options: Any) -> Publisher:
        """Make one."""
        return Publisher(URL, driver=cast("Driver", self), **options)

    async def writes(self, count: int = 1) -> None:
        """Wait until so many messages were written."""
        for _ in range(200):
            if len(self.written) >= count:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"{len(self.written)} were written, not {count}")


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr("mqkit.broker.reconnect.RECOVERY_WAIT_UNIT", 0.01)
    return Broker()


@pytest.fixture
async def publisher(broker: Broker) -> AsyncIterator[Publisher]:
    made = broker.publisher()
    yield made
    await made.close(timeout=0)


async def test_the_block_connects_and_disconnects(broker: Broker) -> None:
    """On entry, so that a wrong password shows at once, and on exit."""
    async with broker.publisher(app_id="web"):
        assert broker.names == ["web"]
    assert broker.connections[0].closed.done()
    broker.error = AuthenticationError("refused")
    with pytest.raises(AuthenticationError):
        async with broker.publisher(name="web.events", app_id="web"):
            raise AssertionError("it is not entered")
    assert broker.names[1:] == ["web.events"]


async def test_the_first_publish_connects(broker: Broker, publisher: Publisher) -> None:
    """Once for all who publish, and nothing before."""
    assert broker.names == []
    await asyncio.gather(*(publisher.publish("", "q", b"") for _ in range(3)))
    assert broker.names == ["mqkit.publisher"]
    await publisher.open()
    assert len(broker.connections) == 1


async def test_a_publish_waits_for_the_broker_within_its_time(
    broker: Broker, publisher: Publisher
) -> None:
    """It is away when the application starts: nothing was written; and once it is back, it is."""
    broker.error = ConnectError("h:5672: refused")
    with pytest.raises(ConnectError, match=r"within 0.02 s: h:5672: refused"):
        await publisher.open(timeout=0.02)
    with pytest.raises(ConnectionLostError, match=r"\(h:5672: refused\); nothing was w") as caught:
        await publisher.publish("", "q", b"", timeout=0.02)
    assert not caught.value.may_be_stored
    broker.error = None
    await publisher.publish("", "q", b"")


async def test_a_refused_user_is_told_so_by_the_first_publish(
    broker: Broker, publisher: Publisher
) -> None:
    """Each of those that wait; the next one asks the broker again."""
    broker.error = AuthenticationError("refused")
    told = await asyncio.gather(
        *(publisher.publish("", "q", b"") for _ in range(2)), return_exceptions=True
    )
    assert [type(each) for each in told] == [AuthenticationError] * 2
    results = [result async for result in publisher.publish_many([Outgoing("", "q", b"")])]
    assert [type(result.error) for result in results] == [AuthenticationError]
    broker.error = None
    await publisher.publish("", "q", b"")


async def test_close_awaits_what_is_in_flight(broker: Broker, publisher: Publisher) -> None:
    """A publish that is confirmed meanwhile is published; one that begins meanwhile is refused."""
    broker.is_silent = True
    publishing = asyncio.create_task(publisher.publish("", "q", b"", message_id="m"))
    await broker.writes()
    closing = asyncio.create_task(publisher.close())
    await asyncio.sleep(0)
    with pytest.raises(PublisherClosedError) as caught:
        await publisher.publish("", "q", b"", message_id="late")
    assert not caught.value.may_be_stored
    assert "message late to the default exchange" in str(caught.value)
    assert not closing.done()
    (channel,) = [each for each in broker.channels if broker.written[0] in each.published]
    channel.confirm(channel.published.index(broker.written[0]) + 1)
    assert await publishing == "m"
    await closing
    assert broker.connections[0].closed.done()
    await publisher.close()


async def test_close_ends_what_has_no_confirm_in_time(broker: Broker, publisher: Publisher) -> None:
    """It is told whether it may be stored, alone or of many; and a request that it got no reply."""
    broker.is_silent = True
    publishing = asyncio.create_task(publisher.publish("", "q", b"alone"))
    many = publisher.publish_many([Outgoing("", "q", b"many")])
    first = asyncio.create_task(cast("Any", anext(many)))
    await broker.writes(2)
    broker.is_silent = False
    asking = asyncio.create_task(publisher.request(Queue("q"), {}, dict))
    await broker.writes(3)
    await publisher.close(timeout=0.02)
    for error in (
        (await asyncio.gather(publishing, return_exceptions=True))[0],
        (await first).error,
    ):
        assert isinstance(error, PublisherClosedError)
        assert error.may_be_stored
    with pytest.raises(ReplyLostError):
        await asking


async def test_close_ends_who_waits_for_a_connection(broker: Broker, publisher: Publisher) -> None:
    """By an error that says that nothing was written."""
    broker.error = ConnectError("h:5672: refused")
    publishing = asyncio.create_task(publisher.publish("", "q", b""))
    while not broker.names:
        await asyncio.sleep(0)
    await publisher.close(timeout=0)
    with pytest.raises(PublisherClosedError) as caught:
        await publishing
    assert not caught.value.may_be_stored


async def test_what_was_closed_is_not_opened_again(publisher: Publisher) -> None:
    """Whoever opens it is told to make another one, and each call that it is closed."""
    await publisher.close()
    with pytest.raises(ConfigurationError, match="was closed, and is not opened again"):
        await publisher.open()
    with pytest.raises(PublisherClosedError):
        await publisher.request(Queue("q"), {}, dict)
    results = [result async for result in publisher.publish_many([Outgoing("", "q", b"")] * 2)]
    assert [type(result.error) for result in results] == [PublisherClosedError] * 2


def test_it_belongs_to_one_event_loop() -> None:
    """Used on another one, it would wait for what is never told there: that is refused."""
    broker = Broker()
    publisher = broker.publisher()

    async def use(call: Callable[[], Any]) -> None:
        await call()

    asyncio.run(use(lambda: publisher.publish("", "q", b"")))
    for call in (
        publisher.open,
        publisher.close,
        lambda: publisher.publish("", "q", b""),
        lambda: publisher.request(Queue("q"), {}, dict),
    ):
        with pytest.raises(ConfigurationError, match="belongs to the event loop") as caught:
            asyncio.run(use(call))
        assert "s3cr3t" not in str(caught.value)
    assert len(broker.written) == 1


async def test_a_services_publisher_is_opened_by_nobody_else(broker: Broker) -> None:
    """Its connection is the service's, and the block would close it."""
    url, driver = BrokerUrl.parse(URL), cast("Driver", broker)
    connection = Connection(url, name="ledger.publish", driver=driver)
    publisher = Publisher.on(connection)
    assert repr(publisher) == "Publisher(on connection 'ledger.publish')"
    with pytest.raises(ConfigurationError, match="a service's own, which opens it and closes it"):
        await publisher.open()


def test_it_is_shown_without_its_password() -> None:
    """A repr is logged."""
    assert (
        repr(Broker().publisher()) == "Publisher('amqp://web@h:5672/shop', name='mqkit.publisher')"
    )
    assert repr(Publisher(BrokerUrl.parse(URL), name="n")) == (
        "Publisher('amqp://web@h:5672/shop', name='n')"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "Publisher(name=...) is a name, not ''"),
        ({"app_id": 5}, "Publisher(app_id=...) is a name, not 5"),
        ({"on_confirmed": 5}, "Publisher(on_confirmed=...) takes a function of a message, not 5"),
        ({"driver": "rabbit"}, "there is no driver 'rabbit'; there are pika and aio-pika"),
        ({"driver": 5}, "Publisher: a driver is 'pika' or 'aio-pika', or what"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], words: str) -> None:
    """When it is made, and not by the first publish."""
    with pytest.raises(ConfigurationError) as caught:
        Publisher(URL, **options)
    assert words in str(caught.value)


async def test_a_wrong_time_is_named(publisher: Publisher) -> None:
    """By the call that is given it, which does nothing then."""
    with pytest.raises(OptionError, match=r"close\(timeout=...\) is seconds"):
        await publisher.close(timeout=-1)
    with pytest.raises(OptionError, match="timeout is seconds"):
        await publisher.open(timeout=0)
    await publisher.publish("", "q", b"", timeout=DEFAULT_TIMEOUT)


async def test_an_exchange_says_whether_a_message_is_mandatory(
    broker: Broker, publisher: Publisher
) -> None:
    """Unless the publish does; of many messages alike; a request is mandatory in any case."""
    events = Exchange("events", mandatory=False)
    await publisher.publish(events, "k", b"")
    await publisher.publish(events, "k", b"", mandatory=True)
    await publisher.publish("events", "k", b"")
    async for _ in publisher.publish_many([Outgoing(events, "k", b"")]):
        pass
    asking = asyncio.create_task(publisher.request(events.key("k"), {}, dict))
    await broker.writes(5)
    assert [each.mandatory for each in broker.written] == [False, True, True, False, True]
    asking.cancel()
    declared = [each for channel in broker.channels for each in channel.declared]
    assert declared == [events, events]  # by the channel of the requests, too


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_row_of_an_outbox_brings_its_exchange(
    broker: Broker, publisher: Publisher, is_refused: bool
) -> None:
    """It is looked for, and declared where it is missing; or the error says why it was not."""
    broker.missing = {"events"}
    if is_refused:
        broker.refusals = {"events": Closed(403, "ACCESS_REFUSED")}
    sending = publisher.send(Message("events", "k", b""), declare=Exchange("events", "fanout"))
    if is_refused:
        with pytest.raises(ExchangeNotFoundError, match=r"may not declare it \(ACCESS_REFUSED\)"):
            await sending
    else:
        await sending
        await publisher.send(Message("events", "k", b""), declare=Exchange("events", "topic"))
    declared = [each for channel in broker.channels for each in channel.declared]
    assert declared == ([] if is_refused else [Exchange("events", "fanout")])
    assert len(broker.written) == (0 if is_refused else 2)


async def test_an_exchange_that_was_deleted_is_declared_again(
    broker: Broker, publisher: Publisher
) -> None:
    """The message is written again then; to an exchange's name, it is an error."""
    broker.is_silent = True
    publishing = asyncio.create_task(publisher.publish(Exchange("events"), "k", b""))
    await broker.writes()
    why = Closed(404, "NOT_FOUND - no exchange 'events' in vhost '/'")
    next(each for each in broker.channels if each.published).end(why)
    broker.is_silent = False
    await publishing
    declared = [each.name for channel in broker.channels for each in channel.declared]
    assert (declared, len(broker.written)) == (["events"] * 2, 2)
