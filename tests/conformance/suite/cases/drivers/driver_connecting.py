"""What mqkit asks of its drivers (`mqkit.drivers.base`): opening a connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from pamqp import commands, frame
from pydantic import SecretStr

from mqkit.errors import AuthenticationError, ConnectError, VirtualHostError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe
from tests.conformance.suite.consumer import ANSWER
from tests.conformance.suite.env import DriverEnv
from tests.conformance.suite.suite import case

SOON = 0.2
"""Seconds that a connection may take where it is to be given up."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def failure(env: DriverEnv, url: BrokerUrl) -> ConnectError:
    """Open a connection that cannot be opened, and return its error, which must come in time."""
    try:
        async with asyncio.timeout(ANSWER):
            await env.driver_connection(url=url)
    except ConnectError as error:
        return error
    raise AssertionError("it was opened")


def that_says(words: bytes) -> Serve:
    """Make a listener that sends these bytes, and waits until the peer leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        await reader.read()
        writer.close()

    return serve


@case("drivers", about="driver")
async def refused_credentials(env: DriverEnv) -> None:
    """A wrong password and an unknown user are an AuthenticationError."""
    for url in (
        replace(env.broker_url, password=SecretStr("not-the-password")),
        replace(env.broker_url, username=env.name),
    ):
        error = await failure(env, url)
        assert type(error) is AuthenticationError, error
        assert "not-the-password" not in str(error)


@case("drivers", about="driver")
async def unknown_virtual_host(env: DriverEnv) -> None:
    """A virtual host that does not exist is a VirtualHostError, which names it."""
    error = await failure(env, replace(env.broker_url, vhost=env.name))
    assert type(error) is VirtualHostError, error
    assert env.name in str(error)


@case("drivers", about="driver")
async def nobody_listens(env: DriverEnv) -> None:
    """A port where nobody listens is a ConnectError, which names it."""
    (port,) = probe.free_ports(1)
    host = replace(env.broker_url.hosts[0], name="127.0.0.1", port=port)
    error = await failure(env, replace(env.broker_url, hosts=(host,)))
    assert type(error) is ConnectError
    assert f"127.0.0.1:{port}" in str(error)


@case("drivers", about="driver")
async def silent_listener(env: DriverEnv) -> None:
    """A listener that says nothing is a ConnectError after `connect_timeout`, and left alone."""
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()
        writer.close()

    url = replace(await env.listener(serve), connect_timeout=SOON)
    begun = time.monotonic()
    error = await failure(env, url)
    assert time.monotonic() - begun >= SOON
    assert type(error) is ConnectError
    assert f"{SOON:g} s" in str(error)
    async with asyncio.timeout(ANSWER):
        await left.wait()


@case("drivers", about="driver")
async def half_open_handshake(env: DriverEnv) -> None:
    """A broker that stops answering amid the handshake is a ConnectError after the timeout."""
    start = commands.Connection.Start(server_properties={"product": "half"})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame.marshal(start, 0))
        await reader.read()
        writer.close()

    error = await failure(env, replace(await env.listener(serve), connect_timeout=SOON))
    assert type(error) is ConnectError


@case("drivers", about="driver")
async def another_protocol(env: DriverEnv) -> None:
    """A listener that speaks something else is a ConnectError at once, not after the timeout."""
    for words in (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"AMQP\x00\x01\x00\x00",  # how a broker of another version answers
        b"\x16\x03\x01",  # TLS
    ):
        error = await failure(env, await env.listener(that_says(words)))
        assert type(error) is ConnectError, (words, error)


@case("drivers", about="driver")
async def listener_hangs_up(env: DriverEnv) -> None:
    """A listener that ends the stream is a ConnectError, at once."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    error = await failure(env, await env.listener(serve))
    assert type(error) is ConnectError


@case("drivers", about="driver")
async def cancelled_attempt(env: DriverEnv) -> None:
    """An attempt to connect whose caller goes away, at any moment, leaves no stream behind."""
    present: set[asyncio.StreamWriter] = set()
    left: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        present.add(writer)
        said = b""
        with contextlib.suppress(ConnectionError):
            said = await reader.read()
        present.discard(writer)
        left.put_nowait(said)
        writer.close()

    url = await env.listener(serve)
    for steps in range(25):
        attempt = asyncio.create_task(failure(env, url))
        for _ in range(steps):
            await asyncio.sleep(0)
        attempt.cancel()
        async with asyncio.timeout(ANSWER):
            await asyncio.wait([attempt])
            assert attempt.cancelled()
            # The listener has met the attempt's stream, if any, once it meets this one.
            _, ours = await asyncio.open_connection(url.hosts[0].name, url.hosts[0].port)
            ours.write(b"ours")
            ours.close()
            while await left.get() != b"ours":
                pass
            while present:
                await left.get()


@case("drivers", about="driver")
async def server_is_named(env: DriverEnv) -> None:
    """`server` is the product and version of which the broker tells."""
    told = (await env.connection()).server_properties
    connection = await env.driver_connection()
    assert connection.server == f"{told['product']} {told['version']}"
    _, connection = await env.scripted()
    assert connection.server == "Scripted 1.2.3"


@case("drivers", about="driver")
async def tells_its_name(env: DriverEnv) -> None:
    """The broker is told the connection's name, and that it can hear of alarms and cancels."""
    broker, _ = await env.scripted()
    told: Any = broker.start_ok.client_properties
    assert told["connection_name"] == env.name
    assert told["product"] == "mqkit"
    for name in (
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ):
        assert told["capabilities"][name] is True, name


@case("drivers", about="driver")
async def heartbeat_of_the_url(env: DriverEnv) -> None:
    """The heartbeat is that of the URL, not the one that the broker proposed."""
    broker, _ = await env.scripted()
    assert broker.tune_ok.heartbeat == env.broker_url.heartbeat


@case("drivers", about="driver")
async def blocked_and_unblocked(env: DriverEnv) -> None:
    """`on_blocked` gets the broker's reason when it blocks publishers, and None when it stops."""
    told: list[str | None] = []
    broker, connection = await env.scripted(told.append)
    assert told == []
    await broker.send(commands.Connection.Blocked("low on memory"))
    await asyncio.gather(connection.channel(), broker.serve_channel())
    assert told == ["low on memory"]
    await broker.send(commands.Connection.Unblocked())
    await broker.send(commands.Connection.Blocked("low on disk"))
    opening = connection.channel()
    opened = commands.Channel.OpenOk()
    await asyncio.gather(opening, broker.answers(commands.Channel.Open, opened, 2))
    assert told == ["low on memory", None, "low on disk"]
