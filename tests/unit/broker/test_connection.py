"""Recovery, with a driver that decides when a connection dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import pytest

from mqkit import BrokerUrl, ConnectError
from mqkit.broker.connection import Connection
from mqkit.drivers.base import Closed, Driver, DriverConnection
from mqkit.errors import (
    AuthenticationError,
    BorrowedConnectionError,
    BrokerUrlError,
    ConfigurationError,
    VirtualHostError,
)
from mqkit.logging.outages import OutageLog
from mqkit.settings import Host


class DyingConnection:
    """Lost as soon as somebody looks."""

    server = "RabbitMQ of the test"

    def __init__(self) -> None:
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """Be closed."""


class DyingDriver:
    """Each connection opens, and dies at once."""

    name = "dying"

    def __init__(self) -> None:
        self.connects = 0
        self.hosts: list[Host] = []

    async def connect(
        self, url: BrokerUrl, host: Host, *, name: str, on_blocked: Callable[[str | None], None]
    ) -> DriverConnection:
        self.connects += 1
        self.hosts.append(host)
        connection = DyingConnection()
        connection.closed.set_result(Closed(320, "dropped"))
        return cast("DriverConnection", connection)


async def test_a_broker_that_drops_everybody_is_not_run_at_in_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the second short life on, a growing jittered wait goes before each connection."""
    waits: list[float] = []
    sleep = asyncio.sleep
    enough = asyncio.Event()

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) >= 12:
            enough.set()
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    monkeypatch.setattr("mqkit.broker.reconnect.random.uniform", lambda _, longest: longest)
    driver = DyingDriver()
    connection = Connection(BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", driver))
    await connection.open(1)
    await asyncio.wait_for(enough.wait(), 5)
    await connection.close()
    assert waits[:4] == [0.8, 1.6, 3.2, 4.0]
    assert driver.connects <= len(waits) + 2


class MovingDriver:
    """Opens connections, except where the next of `errors` is raised instead."""

    name = "moving"

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.hosts: list[str] = []
        self.opened: list[DyingConnection] = []

    async def connect(
        self, url: BrokerUrl, host: Host, *, name: str, on_blocked: Callable[[str | None], None]
    ) -> DriverConnection:
        self.hosts.append(host.name)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        self.opened.append(DyingConnection())
        return cast("DriverConnection", self.opened[-1])


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts to connect."""
    monkeypatch.setattr("mqkit.broker.reconnect.RECOVERY_WAIT_UNIT", 0.0)


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("refused"),
        VirtualHostError("refused"),
        BrokerUrlError("the TLS files cannot be used"),
        ConfigurationError("the function returned no connection"),
        ConnectError("no connection"),
        OSError("too many open files"),
        ValueError("a defect"),
        asyncio.CancelledError(),
    ],
    ids=repr,
)
async def test_a_lost_connection_is_tried_again_whatever_the_reason(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """What was right at the start may be wrong for a while; its reason is told, once a minute."""
    caplog.set_level(logging.DEBUG, "mqkit.outages")
    driver = MovingDriver(None, error, error, error)
    connection = Connection(BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", driver))
    await connection.open(1)
    driver.opened[0].closed.set_result(Closed(320, "dropped"))
    async with asyncio.timeout(5):
        while not driver.opened[1:]:
            await asyncio.sleep(0)
    assert len(driver.hosts) == 5
    tries = [each for each in caplog.records if "trying again" in each.getMessage()]
    # That a broker is away is told by the line of the loss.
    is_news = type(error) is not ConnectError and not isinstance(error, asyncio.CancelledError)
    first = logging.WARNING if is_news else logging.DEBUG
    assert [each.levelno for each in tries] == [first, logging.DEBUG, logging.DEBUG]
    assert str(error) in caplog.text
    assert "connected to" in caplog.records[-1].getMessage()
    await connection.close()


@pytest.mark.usefixtures("no_waits")
async def test_at_the_start_a_refusal_is_not_tried_again() -> None:
    """It is somebody's mistake then, and they wait for the answer."""
    for error in (AuthenticationError("a"), VirtualHostError("v"), BrokerUrlError("u")):
        driver = MovingDriver(error)
        connection = Connection(
            BrokerUrl.parse("amqp://h,i"), name="test", driver=cast("Driver", driver)
        )
        with pytest.raises(type(error)):
            await connection.open(5)
        assert driver.hosts == ["h"]


async def test_no_wait_goes_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a wait is drawn, the last attempt is at the deadline, and its error is told."""
    monkeypatch.setattr(
        "mqkit.broker.reconnect.wait_random_exponential", lambda **_: lambda _: 60.0
    )
    driver = MovingDriver(*[ConnectError("nobody there")] * 10)
    connection = Connection(BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", driver))
    async with asyncio.timeout(5):
        with pytest.raises(ConnectError, match="nobody there"):
            await connection.open(0.05)
    assert len(driver.hosts) >= 2


@pytest.mark.usefixtures("no_waits")
async def test_a_host_that_refuses_is_left_for_the_next_one() -> None:
    """One of a cluster's nodes may not know the user yet, or its name be none of a host."""
    errors = (None, AuthenticationError("refused"), ConnectError("'a..b' cannot be"), None)
    driver = MovingDriver(*errors)
    connection = Connection(
        BrokerUrl.parse("amqp://h,a..b,i"), name="test", driver=cast("Driver", driver)
    )
    await connection.open(1)
    driver.opened[0].closed.set_result(Closed(320, "dropped"))
    async with asyncio.timeout(5):
        while not driver.opened[1:]:
            await asyncio.sleep(0)
    assert driver.hosts == ["h", "h", "a..b", "i"]
    await connection.close()


async def test_a_lent_connection_that_is_closed_is_given_up() -> None:
    """Whoever watches is told, and so is who asks for a channel."""
    driver = MovingDriver(None, BorrowedConnectionError("it is closed"))
    connection = Connection(BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", driver))
    await connection.open(1)
    watching = asyncio.create_task(connection.given_up())
    await asyncio.sleep(0)
    assert not watching.done()
    driver.opened[0].closed.set_result(Closed(320, "dropped"))
    for waiting in (watching, connection.channel()):
        with pytest.raises(ConnectError, match="is given up: it is closed"):
            await asyncio.wait_for(waiting, 5)
    await connection.close()


async def test_a_closed_connection_gives_no_channels() -> None:
    """After close(), a waiting caller gets ConnectError instead of waiting for ever."""
    connection = Connection(
        BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", DyingDriver())
    )
    waiting = asyncio.create_task(connection.channel())
    await asyncio.sleep(0)
    await connection.close()
    with pytest.raises(ConnectError, match="it was closed"):
        await waiting


async def test_nobody_waits_for_the_end_of_an_alarm_on_a_closed_connection() -> None:
    """After close() the broker blocks nothing here, whatever the driver still tells."""
    connection = Connection(
        BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", DyingDriver())
    )
    connection._set_blocked("low on memory")
    waiting = asyncio.create_task(connection.unblocked())
    await asyncio.sleep(0)
    assert not waiting.done()
    await connection.close()
    await asyncio.wait_for(waiting, 5)
    connection._set_blocked("low on disk")
    assert connection.blocked is None


@pytest.mark.usefixtures("no_waits")
async def test_the_losses_of_a_services_connections_are_one_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line at its start, and one at its end, once the last one is back."""
    caplog.set_level(logging.INFO, "mqkit.outages")
    outages = OutageLog()
    drivers = [MovingDriver(None, ConnectError("refused")) for _ in range(2)]
    connections = [
        Connection(
            BrokerUrl.parse("amqp://h"), name=name, driver=cast("Driver", driver), outages=outages
        )
        for name, driver in zip("ab", drivers, strict=True)
    ]
    for connection in connections:
        await connection.open(1)
    caplog.clear()
    for driver in drivers:
        driver.opened[0].closed.set_result(Closed(320, "dropped"))
    async with asyncio.timeout(5):
        while not all(driver.opened[1:] for driver in drivers):
            await asyncio.sleep(0)
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]
    for connection in connections:
        await connection.close()


async def test_the_time_for_which_the_broker_blocks_is_summed_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over all alarms, one that changes its reason, and the one that lasts"""
    now = 0.0
    monkeypatch.setattr("mqkit.broker.connection.monotonic", lambda: now)
    url = BrokerUrl.parse("amqp://h/")
    connection = Connection(url, name="test", driver=cast("Driver", DyingDriver()))
    for seconds, reason in ((0, "memory"), (2, "disk"), (5, None), (9, "memory")):
        now = float(seconds)
        connection._set_blocked(reason)
    assert connection.blocked_seconds == 5
    now = 10.5
    assert connection.blocked_seconds == 6.5
