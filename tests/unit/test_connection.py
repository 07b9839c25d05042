"""Recovery, with a driver that decides when a connection dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from mqkit import BrokerUrl, ConnectError
from mqkit.connection import Connection
from mqkit.drivers.base import Closed, Driver, DriverConnection
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
    monkeypatch.setattr("mqkit.connection.random.uniform", lambda _, longest: longest)
    driver = DyingDriver()
    connection = Connection(BrokerUrl.parse("amqp://h"), name="test", driver=cast("Driver", driver))
    await connection.open(1)
    await asyncio.wait_for(enough.wait(), 5)
    await connection.close()
    assert waits[:4] == [0.8, 1.6, 3.2, 4.0]
    assert driver.connects <= len(waits) + 2


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
