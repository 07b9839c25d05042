"""What a case is given: channels of the client under test, names of its own, and time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import SecretStr

from mqkit.drivers.base import Driver, DriverChannel, DriverConnection
from mqkit.settings import BrokerUrl, Host
from tests.conformance.suite.channel import Declared, WireChannel, WireConnection
from tests.conformance.suite.consumer import ANSWER, Consumer
from tests.conformance.suite.peer import Peer
from tests.conformance.suite.scripted import ScriptedBroker
from tests.conformance.suite.values import ClosedError, Delivery
from tests.conformance.suite.wire.base import Wire

POLL = 0.01
"""Seconds between two looks at what cannot be waited for."""

QUEUE_TYPES = ("classic", "quorum")
"""For what holds for both: the values of `x-queue-type`."""


@dataclass(frozen=True, slots=True)
class Target:
    """A broker under test.

    `label` is its key in `features.LACKS`; `advance`, where there is one, moves its clock by so
    many seconds (it may block, and is called in a thread); without it, seconds are slept.
    """

    label: str
    url: str
    version: str = "unknown"
    advance: Callable[[float], object] | None = None


class Session:
    """The connection that the cases of one run share, opened anew where a case has lost it."""

    def __init__(self, target: Target, connect: Callable[[BrokerUrl], Awaitable[Wire]]) -> None:
        self.target = target
        self.url = BrokerUrl.parse(target.url)
        self.connect = connect
        self._wire: Wire | None = None
        self._lock = asyncio.Lock()

    async def wire(self) -> Wire:
        """The shared connection."""
        async with self._lock:
            if self._wire is None or self._wire.closed.done():
                self._wire = await self.connect(self.url)
            return self._wire

    async def close(self) -> None:
        """Close the shared connection."""
        if self._wire is not None:
            await self._wire.close()


class Env:
    """One case's surroundings; all that was opened and declared through it goes at its end."""

    def __init__(self, session: Session) -> None:
        self.target = session.target
        self.url = session.target.url
        self.name = f"conf-{secrets.token_hex(4)}"
        """A prefix for names that no other case uses."""
        self._session = session
        self._declared: Declared = []
        self._open = contextlib.AsyncExitStack()
        self._names = itertools.count(1)

    def new_name(self, kind: str = "q") -> str:
        """Another name that begins with `name`."""
        return f"{self.name}.{kind}{next(self._names)}"

    async def queue(
        self, channel: WireChannel, exchange: str = "", *keys: str, **arguments: object
    ) -> str:
        """Declare a durable queue under a new name, bound with the keys where an exchange is given.

        :param arguments: the queue's, underscores for the dashes: `x_max_length=3`
        """
        queue = self.new_name()
        fixed = {name.replace("_", "-"): value for name, value in arguments.items()}
        await channel.queue_declare(queue, arguments=fixed)
        if exchange:
            for key in keys or ("",):
                await channel.queue_bind(queue, exchange, key)
        return queue

    async def exchange(self, channel: WireChannel, type: str = "direct") -> str:  # noqa: A002
        """Declare a durable exchange under a new name."""
        exchange = self.new_name("x")
        await channel.exchange_declare(exchange, type)
        return exchange

    async def dead_letters(self, channel: WireChannel) -> tuple[str, str]:
        """Declare an exchange for dead letters, and a queue that gets all of them."""
        exchange = await self.exchange(channel, "fanout")
        return exchange, await self.queue(channel, exchange)

    async def connection(
        self,
        *,
        username: str | None = None,
        password: str | None = None,
        vhost: str | None = None,
    ) -> WireConnection:
        """Open a connection of this case's own; one that the case may break.

        :raises ConnectionClosedError: the broker refused it, with its code
        """
        url = self._session.url
        url = replace(
            url,
            username=url.username if username is None else username,
            password=url.password if password is None else SecretStr(password),
            vhost=url.vhost if vhost is None else vhost,
        )
        connection = WireConnection(await self._session.connect(url), self._declared)
        self._open.push_async_callback(connection.close)
        return connection

    async def channel(self) -> WireChannel:
        """Open a channel on the connection that all cases share; do not break that one."""
        channel = await WireConnection(await self._session.wire(), self._declared).channel()
        self._open.push_async_callback(channel.close)
        return channel

    async def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass for the broker."""
        if self.target.advance is None:
            await asyncio.sleep(seconds)
        else:
            await asyncio.to_thread(self.target.advance, seconds)

    async def eventually(
        self, condition: Callable[[], Awaitable[bool]], what: str, within: float = ANSWER
    ) -> None:
        """Wait until the condition holds.

        :raises AssertionError: it did not within so many seconds
        """
        deadline = time.monotonic() + within
        while not await condition():
            assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
            await asyncio.sleep(POLL)

    async def arrives(self, channel: WireChannel, queue: str) -> Delivery:
        """Take the next message of the queue with `no_ack`, as soon as there is one.

        :raises AssertionError: there was none in time
        """
        deadline = time.monotonic() + ANSWER
        while (delivery := await channel.get(queue, no_ack=True)) is None:
            assert time.monotonic() < deadline, f"nothing came to {queue} within {ANSWER:g} s"
            await asyncio.sleep(POLL)
        return delivery

    async def ready(self, channel: WireChannel, queue: str, count: int) -> None:
        """Wait until so many messages are ready in the queue.

        :raises AssertionError: there was another number of them all the time
        """

        async def has_count() -> bool:
            return (await channel.queue_declare(queue, passive=True)).messages == count

        await self.eventually(has_count, f"{count} ready in {queue}")

    async def nothing_more(self, consumer: Consumer) -> None:
        """Claim that the broker has nothing more to deliver to this consumer now.

        The queue answers its channel's first passive declaration after it has sent all that it
        had for it; the second comes after the channel has passed that on.
        """
        for _ in range(2):
            await consumer.channel.queue_declare(consumer.queue, passive=True)
        left = consumer.deliveries.qsize()
        assert left == 0, f"{left} more came, first {consumer.deliveries.get_nowait()}"

    async def close(self) -> None:
        """Close and delete what the case opened and declared."""
        await self._open.aclose()
        # What cannot be deleted went already, is the broker's own, or was never declared.
        channel = None
        for kind, name in dict.fromkeys(reversed(self._declared)):
            if not name.startswith(self.name) and not name.startswith("amq.gen-"):
                continue
            if channel is None or channel.closed.done():
                channel = await WireConnection(await self._session.wire(), []).channel()
            with contextlib.suppress(ClosedError):
                if kind == "queue":
                    await channel.queue_delete(name)
                else:
                    await channel.exchange_delete(name)
        if channel is not None:
            await channel.close()


class DriverEnv(Env):
    """For cases about mqkit's drivers; `channel()` is beside the driver, on raw pika."""

    def __init__(self, session: Session, driver: Driver) -> None:
        super().__init__(session)
        self.driver = driver

    @property
    def broker_url(self) -> BrokerUrl:
        """The broker's URL, for a case that changes something in it (`dataclasses.replace`)."""
        return self._session.url

    async def driver_connection(
        self,
        on_blocked: Callable[[str | None], None] = lambda _: None,
        url: BrokerUrl | None = None,
    ) -> DriverConnection:
        """Open a connection with the driver, to the broker or to another URL.

        :raises mqkit.errors.ConnectError: it could not be opened
        """
        url = url or self._session.url
        connection = await self.driver.connect(
            url, url.hosts[0], name=self.name, on_blocked=on_blocked
        )
        self._open.push_async_callback(connection.close)
        return connection

    def undeclared(self, kind: Literal["exchange", "queue"] = "queue") -> str:
        """A new name for the driver to declare; what it is given to goes at the end."""
        name = self.new_name(kind[0])
        self._declared.append((kind, name))
        return name

    async def listener(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> BrokerUrl:
        """Listen on a port of this machine as `asyncio.start_server`; the URL that leads there."""
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._open.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        return replace(self._session.url, hosts=(Host("127.0.0.1", port),), tls=None)

    async def scripted(
        self, on_blocked: Callable[[str | None], None] = lambda _: None
    ) -> tuple[ScriptedBroker, DriverConnection]:
        """Open a connection with the driver to a broker that the case plays itself."""
        accepted: asyncio.Future[ScriptedBroker] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(ScriptedBroker(reader, writer, self._session.url))

        async def opened() -> ScriptedBroker:
            broker = await accepted
            await broker.serve_open()
            return broker

        url = await self.listener(serve)
        broker, connection = await asyncio.gather(opened(), self.driver_connection(on_blocked, url))
        # Before the driver closes the connection, which nobody would answer.
        self._open.push_async_callback(broker.close)
        return broker, connection

    async def scripted_channel(self) -> tuple[ScriptedBroker, DriverChannel]:
        """As `scripted`, with a channel, which has the number 1."""
        broker, connection = await self.scripted()
        channel, _ = await asyncio.gather(connection.channel(), broker.serve_channel())
        return broker, channel

    async def driver_channel(self) -> DriverChannel:
        """Open a channel on a connection of its own with the driver."""
        return await (await self.driver_connection()).channel()


class BytesEnv(Env):
    """For cases about the bytes on the wire; `channel()` is beside them, on raw pika."""

    async def peer(self) -> Peer:
        """Open a socket to the broker; nothing is sent on it yet."""
        host = self._session.url.hosts[0]
        peer = await Peer.connect(host.name, host.port, self._session.url)
        self._open.push_async_callback(peer.close)
        return peer

    async def opened(self) -> Peer:
        """Open a socket, a connection on it, and its channel 1."""
        peer = await self.peer()
        await peer.open()
        await peer.open_channel(1)
        return peer


@contextlib.asynccontextmanager
async def expect_closed(channel: WireChannel, code: int, text: str = "") -> AsyncIterator[None]:
    """Claim that what is done in the block makes the broker close this channel with the code.

    :param text: words that the broker's own must contain
    :raises AssertionError: the channel is open after all of the block, or closed otherwise
    """
    with contextlib.suppress(ClosedError):
        yield
        if not channel.closed.done():
            await channel.round_trip()
            raise AssertionError(f"the channel is open: it was to be closed with {code}")
    await asyncio.wait([channel.closed], timeout=ANSWER)
    assert channel.closed.done(), "another channel was closed, and this one is open"
    closed = channel.closed.result()
    assert not closed.of_connection, f"the connection was closed, not only the channel: {closed}"
    assert closed.code == code, f"closed with {closed.code}, not {code}: {closed.text}"
    assert text in closed.text, f"{text!r} is not in {closed.text!r}"


@contextlib.asynccontextmanager
async def expect_connection_closed(
    channel: WireChannel, code: int, text: str = ""
) -> AsyncIterator[None]:
    """Claim that what is done in the block makes the broker close the channel's connection.

    The connection must be the case's own: `await (await env.connection()).channel()`.

    :raises AssertionError: it is open after all of the block, or closed otherwise
    """
    with contextlib.suppress(ClosedError):
        yield
        if not channel.closed.done():
            await channel.round_trip()
            raise AssertionError(f"the connection is open: it was to be closed with {code}")
    await asyncio.wait([channel.closed], timeout=ANSWER)
    assert channel.closed.done(), "another connection was closed, and this one is open"
    closed = channel.closed.result()
    assert closed.of_connection, f"only the channel was closed: {closed}"
    assert closed.code == code, f"closed with {closed.code}, not {code}: {closed.text}"
    assert text in closed.text, f"{text!r} is not in {closed.text!r}"


@contextlib.asynccontextmanager
async def expect_refused(code: int, text: str = "") -> AsyncIterator[None]:
    """Claim that a connection or channel opened in the block is refused with the code."""
    try:
        yield
    except ClosedError as error:
        assert error.code == code, f"refused with {error.code}, not {code}: {error.text}"  # noqa: PT017
        assert text in error.text, f"{text!r} is not in {error.text!r}"  # noqa: PT017
    else:
        raise AssertionError(f"it was not refused: it was to be, with {code}")
