"""A connection that is opened when it is needed: once for all, and what those who wait are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from mqkit import AuthenticationError, BrokerUrl, ConnectError
from mqkit.broker.lazy import LazyConnection
from mqkit.drivers.base import Closed, Driver, DriverConnection
from mqkit.settings import Host


class Opened:
    """An open connection of the fake broker."""

    server = "RabbitMQ of the test"

    def __init__(self) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def channel(self) -> object:
        """Open a channel."""
        return self

    async def close(self) -> None:
        """Close it."""
        if not self.closed.done():
            self.closed.set_result(Closed(0, "closed"))


class Broker:
    """Lets a connection in once `up` is set, and answers each with the next of `errors` before."""

    name = "fake"

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.errors: list[Exception] = []
        self.connects = 0

    async def connect(
        self, url: BrokerUrl, host: Host, *, name: str, on_blocked: Callable[[str | None], None]
    ) -> DriverConnection:
        self.connects += 1
        await self.up.wait()
        if self.errors:
            raise self.errors.pop(0)
        return cast("DriverConnection", Opened())


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr("mqkit.broker.reconnect.RECOVERY_WAIT_UNIT", 0.0)
    return Broker()


@pytest.fixture
async def connection(broker: Broker) -> AsyncIterator[LazyConnection]:
    made = LazyConnection(BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", broker))
    yield made
    await made.close()


async def test_all_who_need_a_channel_share_one_connection(
    broker: Broker, connection: LazyConnection
) -> None:
    """Nothing is opened before the first of them, and `open` waits for the same one."""
    assert broker.connects == 0
    waiting = asyncio.gather(connection.open(5), *(connection.channel() for _ in range(5)))
    await asyncio.sleep(0)
    broker.up.set()
    await waiting
    assert broker.connects == 1


async def test_a_refusal_reaches_all_who_wait_and_is_asked_for_again(
    broker: Broker, connection: LazyConnection
) -> None:
    """A wrong password is no reason to wait, and may be right when the next one comes."""
    broker.up.set()
    broker.errors = [AuthenticationError("refused")]
    told = await asyncio.gather(*(connection.channel() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in told] == [AuthenticationError] * 3
    assert broker.connects == 1
    await connection.channel()
    assert broker.connects == 2


async def test_a_deadline_ends_the_wait_and_not_the_attempt(
    broker: Broker, connection: LazyConnection
) -> None:
    """The error says why there is no connection, and the next one finds it, or waits for it."""
    broker.up.set()
    broker.errors = [ConnectError("h:5672: refused")]
    opening = asyncio.create_task(connection.open(0.05))
    while connection.problem is None:
        await asyncio.sleep(0)
    broker.up.clear()
    with pytest.raises(ConnectError) as caught:
        await opening
    assert str(caught.value) == (
        "connection test: the broker was not reached within 0.05 s: h:5672: refused"
    )
    broker.up.set()
    await connection.channel()
    assert broker.connects == 2


async def test_who_waits_when_it_is_closed_is_told_so(
    broker: Broker, connection: LazyConnection
) -> None:
    """By an error of this connection, not by a cancellation of theirs; and who comes later too."""
    waiting = [asyncio.create_task(connection.channel()) for _ in range(2)]
    while not broker.connects:
        await asyncio.sleep(0)
    await connection.close()
    for each in waiting:
        with pytest.raises(ConnectError, match="connection test: it was closed"):
            await each
    with pytest.raises(ConnectError, match="connection test: it was closed"):
        await connection.channel()
    assert broker.connects == 1


async def test_a_caller_who_is_cancelled_leaves_the_attempt_to_the_others(
    broker: Broker, connection: LazyConnection
) -> None:
    """A publish that gave up does not take the connection from the next one."""
    first = asyncio.create_task(connection.channel())
    second = asyncio.create_task(connection.channel())
    while not broker.connects:
        await asyncio.sleep(0)
    first.cancel()
    broker.up.set()
    await second
    assert broker.connects == 1
    assert first.cancelled()
