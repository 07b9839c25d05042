"""Services on aio-pika connections that the application holds or opens."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection

from mqkit import (
    BrokerUrl,
    ConfigurationError,
    ConnectError,
    Delivery,
    Publisher,
    Queue,
    Retry,
    Runtime,
    Service,
    drivers,
)
from mqkit.broker.connection import Connection
from mqkit.drivers.aio_pika.connection import Alarms
from mqkit.errors import AuthenticationError, BorrowedConnectionError
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.support import connected, eventually, running


@contextlib.asynccontextmanager
async def application(url: str) -> AsyncIterator[AbstractConnection]:
    """A connection that the application holds, and still has at the end."""
    async with await aio_pika.connect(url) as connection:
        yield connection


def echo(name: str, connection: Any, seen: list[bytes]) -> Service:
    """A service that publishes what it gets to a queue of its own."""
    service = Service(name, retry=Retry.never(), connection=connection)

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, publisher: Publisher) -> None:
        await publisher.publish("", f"{name}.out", body, mandatory=False)
        seen.append(body)

    return service


async def test_a_service_runs_on_the_application_s_connection(broker: Broker, name: str) -> None:
    """It consumes and publishes on it, and leaves it and the application's channels open."""
    seen: list[bytes] = []
    async with application(broker.url) as lent, connected(broker.url) as client:
        await client.declare(f"{name}.out")
        own = await lent.channel()
        queue = await own.declare_queue(f"{name}.own", durable=False, exclusive=True)
        async with Runtime(echo(name, lent, seen)) as runtime:
            assert runtime.server == broker.server
            for number in range(200):
                await client.publisher.publish("", f"{name}.q", b"%d" % number)
                if number % 20 == 0:  # the application's own channels come and go beside it
                    async with lent.channel():
                        pass
            await eventually(lambda: len(seen) == 200)
            assert await client.consumers(f"{name}.q") == 1
        assert len(await client.take_all(f"{name}.out")) == 200
        assert not lent.is_closed
        assert not own.is_closed
        await own.default_exchange.publish(aio_pika.Message(b"mine"), queue.name)
        got = await queue.get(timeout=5)
        assert got is not None
        await got.ack()
        assert got.body == b"mine"


async def test_a_lent_connection_keeps_nothing_of_its_users(broker: Broker, name: str) -> None:
    """Services that start and stop on one connection leave no channel, callback or task on it."""
    async with application(broker.url) as lent:
        assert lent.transport is not None
        under: Any = lent.transport.connection

        def kept() -> tuple[int, int, int, int]:
            return (
                len(Alarms.of(under)._listeners),
                len(under.channels),
                len(under._closing._callbacks),
                len(asyncio.all_tasks()),
            )

        before = kept()
        for _ in range(20):
            async with Runtime(echo(name, lent, [])):
                await eventually(lambda: len(under.channels) > before[1])
        assert kept() == before


async def test_a_late_answer_reaches_no_channel_of_the_application(broker: Broker) -> None:
    """What the broker says of mqkit's channels after mqkit has gone harms nobody on it."""
    with TcpProxy(broker.url) as proxy:
        async with application(proxy.url) as lent:
            url, driver = drivers.of_application(lent)
            used = await driver.connect(url, url.hosts[0], name="t", on_blocked=lambda _: None)
            channel = await used.channel()
            proxy.stall("to_client")
            await used.close()
            assert channel.closed.done()
            opening = asyncio.ensure_future(_open_channel(lent))
            await asyncio.sleep(0)
            proxy.resume("to_client")
            own = await opening
            await own.declare_queue(durable=False, exclusive=True)
            assert not own.is_closed
            assert lent.transport is not None
            under = lent.transport.connection
            await eventually(lambda: list(under.channels) == [own.number])


async def _open_channel(connection: AbstractConnection) -> aio_pika.abc.AbstractChannel:
    return await connection.channel()


async def test_a_lost_lent_connection_ends_the_service(broker: Broker, name: str) -> None:
    """`run` ends with an error that says whose connection it was, why, and what to do."""
    with TcpProxy(broker.url) as proxy:
        async with application(proxy.url) as lent:
            service = echo(name, lent, [])
            runtime = Runtime(service, grace=1)
            running = asyncio.create_task(runtime.run(asyncio.Event()))
            async with connected(broker.url) as client:

                async def consuming() -> bool:
                    try:
                        return await client.consumers(f"{name}.q") == 1
                    except Exception:  # noqa: BLE001 - the queue is not there yet
                        return False

                await eventually(consuming)
            proxy.cut()
            began = time.monotonic()
            with pytest.raises(ConnectError, match=r"aio-pika connection .* is closed .*async"):
                await running
            assert time.monotonic() - began < 5
            with pytest.raises(BorrowedConnectionError, match="does not open it again"):
                await Runtime(service).run(asyncio.Event())


async def test_an_opener_is_asked_again(broker: Broker, name: str) -> None:
    """A function opens a connection for each use, and others when those are lost."""
    seen: list[bytes] = []
    opened: list[AbstractConnection] = []
    with TcpProxy(broker.url) as proxy:

        async def open_connection() -> AbstractConnection:
            opened.append(await aio_pika.connect(proxy.url))
            return opened[-1]

        async with (
            connected(broker.url) as client,
            Runtime(echo(name, open_connection, seen)),
        ):
            await client.publisher.publish("", f"{name}.q", b"1")
            await eventually(lambda: seen == [b"1"])
            assert len(opened) == 2
            proxy.cut()
            await eventually(lambda: len(opened) == 4)
            await client.publisher.publish("", f"{name}.q", b"2")
            await eventually(lambda: b"2" in seen)
    assert all(connection.is_closed for connection in opened)


async def test_an_opener_that_fails_is_asked_until_it_does_not(broker: Broker, name: str) -> None:
    """What the network does wrong is tried again; a wrong password or a bug is told at once."""
    calls = 0

    async def late() -> AbstractConnection:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionRefusedError(111, "not yet")
        return await aio_pika.connect(broker.url)

    async with Runtime(echo(name, late, [])):
        assert calls == 3

    async def wrong_password() -> AbstractConnection:
        return await aio_pika.connect(broker.url.replace("guest:guest", "guest:wrong"))

    with pytest.raises(AuthenticationError, match="the application's function"):
        await Runtime(echo(name, wrong_password, [])).run(asyncio.Event())

    async def no_vhost() -> AbstractConnection:
        return await aio_pika.connect(f"{broker.url}nowhere")

    with pytest.raises(ConnectError, match="a virtual host that does not exist, for example"):
        await Runtime(echo(name, no_vhost, []), connect_deadline=0.1).run(asyncio.Event())

    async def bug() -> AbstractConnection:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Runtime(echo(name, bug, [])).run(asyncio.Event())


async def test_a_robust_connection_is_refused(broker: Broker, name: str) -> None:
    """Lent or returned by the function, it is a ConfigurationError that says what to give."""
    robust = await aio_pika.connect_robust(broker.url)
    try:
        with pytest.raises(ConfigurationError, match="not a robust one"):
            Runtime(echo(name, robust, []))
    finally:
        await robust.close()

    opened: list[AbstractConnection] = []

    async def opener() -> AbstractConnection:
        opened.append(await aio_pika.connect_robust(broker.url))
        return opened[-1]

    with pytest.raises(ConfigurationError, match="not a robust one"):
        await Runtime(echo(name, opener, [])).run(asyncio.Event())
    assert opened[0].is_closed


async def test_what_is_no_connection_is_refused(broker: Broker, name: str) -> None:
    """A URL, a function with arguments, two brokers and none are each refused by name."""
    for wrong, words in (
        (broker.url, "not str"),
        (lambda url: url, "missing a required argument: 'url'"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Runtime(echo(name, wrong, []))

    async def nothing() -> None:
        return None

    with pytest.raises(ConfigurationError, match="it returned NoneType"):
        await Runtime(echo(name, nothing, [])).run(asyncio.Event())
    url = BrokerUrl.parse(broker.url)
    with pytest.raises(ConfigurationError, match="no URL and no driver"):
        Runtime(echo(name, nothing, []), url)
    with pytest.raises(ConfigurationError, match="no URL and no driver"):
        Runtime(echo(name, nothing, []), driver=drivers.named("pika"))
    with pytest.raises(ConfigurationError, match="has no broker"):
        Runtime(echo(name, None, []))


async def test_a_connection_of_another_loop_is_refused(broker: Broker, name: str) -> None:
    """A connection can be used in its own event loop only, and the error says so."""
    async with application(broker.url) as lent:

        def in_another_loop() -> None:
            run = Runtime(echo(name, lent, [])).run(asyncio.Event())
            with pytest.raises(ConfigurationError, match="another event loop"):
                asyncio.run(asyncio.wait_for(run, 5))

        await asyncio.to_thread(in_another_loop)


async def test_an_alarm_reaches_those_who_borrow(broker: Broker, name: str) -> None:
    """A connection that is blocked, before or after it is lent, is known to be; and its end."""
    async with application(broker.url) as lent:
        channel = await lent.channel()
        url, driver = drivers.of_application(lent)
        early = Connection(url, name="early", driver=driver)
        await early.open()
        assert early.blocked is None
        await asyncio.to_thread(broker.block)
        publishing = asyncio.create_task(
            channel.default_exchange.publish(aio_pika.Message(b"x"), "nowhere")
        )
        try:
            await eventually(lambda: early.blocked is not None)
            assert "memory" in str(early.blocked)
            late = Connection(url, name="late", driver=driver)
            await late.open()
            assert "memory" in str(late.blocked)
            unknown: list[str | None] = []
            assert lent.transport is not None
            alarms = Alarms.of(lent.transport.connection)
            alarms._reason = None  # as if it had been blocked before mqkit was there
            again = await driver.connect(url, url.hosts[0], name="again", on_blocked=unknown.append)
            assert unknown == ["it was blocked before mqkit came to it"]
        finally:
            await asyncio.to_thread(broker.unblock)
        await eventually(lambda: (early.blocked, late.blocked, unknown[-1]) == (None, None, None))
        await publishing
        for each in (early, late, again):
            await each.close()


@pytest.mark.in_turn
async def test_mqkit_run_takes_the_service_s_connection(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Without a URL it runs on what the service opens, and with one it is called wrongly."""
    environment = {"TEST_OWN_URL": broker.url, "TEST_QUEUE": f"{name}.q"}
    log = tmp_path / "log"
    with running(
        "tests.integration.borrowed_services:service", "amqp://127.0.0.1:1/", log, **environment
    ) as process:
        await process.says("consuming")
        async with connected(broker.url) as client:
            await client.publisher.publish("", f"{name}.q", b"one")
            await process.says("handled one")
        listed = await asyncio.to_thread(broker.ctl, "list_connections", "client_properties")
        assert "of the application" in listed
        process.send(signal.SIGTERM)
        assert await process.ends() == 0
    with running(
        "tests.integration.borrowed_services:service",
        "amqp://127.0.0.1:1/",
        log,
        "--url",
        broker.url,
        **environment,
    ) as process:
        assert await process.ends() == 2
        assert "has a connection of its own" in process.text()


@pytest.mark.in_turn
@pytest.mark.parametrize("driver", drivers.NAMES)
async def test_mqkit_run_takes_a_driver_by_name(
    broker: Broker, name: str, tmp_path: Path, driver: str
) -> None:
    """`--driver` chooses the client, which the broker sees; an unknown one is a wrong call."""
    log = tmp_path / "log"
    queue = {"MQKIT_TEST_QUEUE": f"{name}.q"}
    slow = "tests.faults.services:slow"
    with running(slow, broker.url, log, "--driver", driver, **queue) as process:
        await process.says("consuming")
        listed = await asyncio.to_thread(broker.ctl, "list_connections", "client_properties")
        ours = [line for line in listed.splitlines() if "slow.consume" in line]
        assert {"pika": "pika.rtfd.org", "aio-pika": "mosquito/aiormq"}[driver] in ours[0]
        process.send(signal.SIGTERM)
        assert await process.ends() == 0
    with running(slow, broker.url, log, "--driver", "carrier") as process:
        assert await process.ends() == 2
        assert "there are pika and aio-pika" in process.text()


async def test_handlers_of_a_lent_connection_see_that_it_is_lost(broker: Broker, name: str) -> None:
    """When the application closes its connection, a running handler's delivery is lost."""
    deliveries: list[Delivery] = []
    release = asyncio.Event()
    lent = await aio_pika.connect(broker.url)
    service = Service(name, retry=Retry.never(), connection=lent)

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, delivery: Delivery) -> None:
        deliveries.append(delivery)
        await release.wait()

    runtime = Runtime(service, grace=5)
    running_ = asyncio.create_task(runtime.run(asyncio.Event()))
    async with connected(broker.url) as client:

        async def published() -> bool:
            try:
                await client.publisher.publish("", f"{name}.q", b"x", timeout=1)
            except Exception:  # noqa: BLE001 - the queue is not there yet
                return False
            return True

        await eventually(published)
        await eventually(lambda: len(deliveries) == 1)
        await lent.close()
        await eventually(lambda: deliveries[0].lost)
        release.set()
        with pytest.raises(ConnectError, match="Normal shutdown"):
            await running_
        assert (await client.take(f"{name}.q")).body == b"x"
