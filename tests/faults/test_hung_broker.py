"""A RabbitMQ that is stopped as a hung one is: its sockets stay, and it does nothing."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterator

import pytest

from mqkit import BrokerUrl
from mqkit.drivers import NAMES, named
from mqkit.drivers.base import DriverChannel, DriverConnection
from mqkit.drivers.heartbeat import SILENT
from mqkit.message import Message
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.brokers.finder import BrokerNotFoundError, BrokerSpec, find_brokers, start
from tests.support import connected, eventually

pytestmark = pytest.mark.in_turn

HUNG = 12
"""Seconds that the broker does nothing."""

HANG = (
    'Pid = os:getpid(), os:cmd("(sleep 1; kill -STOP " ++ Pid ++ "; sleep '
    f'{HUNG}; kill -CONT " ++ Pid ++ ") >/dev/null 2>&1 &").'
)
"""Erlang; a process beside the node stops it after the answer to this, and lets it go on."""


@functools.cache
def _found(kind: str) -> list[BrokerSpec]:
    try:
        return find_brokers({**os.environ, "MQKIT_TEST_BROKER": kind})
    except BrokerNotFoundError:
        return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # Not the broker of the other tests, which nobody else may find hung.
    specs = [*_found("container"), *_found("node")]
    metafunc.parametrize(
        "own_broker", specs, ids=[spec.label for spec in specs], indirect=True, scope="module"
    )


@pytest.fixture(scope="module")
def own_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with start(request.param) as broker:
        yield broker


async def connect(url: str, driver: str) -> tuple[DriverConnection, DriverChannel]:
    """A connection, and a channel of it that consumes."""
    broker_url = BrokerUrl.parse(url)
    connection = await named(driver).connect(
        broker_url, broker_url.hosts[0], name="test", on_blocked=lambda _: None
    )
    channel = await connection.channel()
    state = await channel.declare_queue("", durable=False, exclusive=True)
    await channel.consume(state.name, lambda _: None, lambda: None)
    return connection, channel


async def test_a_hung_broker_is_noticed(own_broker: Broker, name: str) -> None:
    """Each driver notices while it hangs, consuming or publishing; and it serves again after."""
    url = f"{own_broker.url}?heartbeat=1"
    opened = [await connect(url, driver) for driver in NAMES for _ in ("consumes", "publishes")]
    async with connected(f"{own_broker.url}?heartbeat=1") as client:
        before = client.connection.generation
        await asyncio.to_thread(own_broker.evaluate, HANG)
        for connection, channel in opened[1::2]:
            assert not connection.closed.done()
            channel.publish(Message("", name, b"", mandatory=False))
        async with asyncio.timeout(HUNG):
            reasons = [await asyncio.shield(connection.closed) for connection, _ in opened]
        assert [why.text for why in reasons] == [SILENT] * len(opened)
        # Whoever recovers is back soon after it, within RECOVERY_WAIT_MAX and a little.
        await eventually(
            lambda: client.connection.generation > before and client.connection.is_up, 30
        )
        await client.declare(name)
        await client.publisher.publish("", name, {})
        assert await client.messages(name) == 1
