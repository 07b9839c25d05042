"""The embedded broker on real sockets: peers that behave badly, limits, and its own end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pika
import pika.exceptions
import pytest
from pamqp import body, commands

from mqkit.embedded import DataError, EmbeddedServer, ServerThread
from mqkit.embedded.engine.message import Message
from mqkit.embedded.server import peer as peers
from mqkit.embedded.session.connection import OUTPUT_HIGH, Connection
from tests.integration.embedded_wire import Wire, connected, message
from tests.support import eventually


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    """A broker in memory, in the test's event loop."""
    async with EmbeddedServer() as running:
        yield running


@pytest.fixture
def thread() -> Iterator[ServerThread]:
    """A broker in memory, in a thread."""
    with ServerThread() as running:
        yield running


def depth(server: EmbeddedServer, queue: str = "q") -> int:
    """Ready messages."""
    return next(each.ready for each in server.queues() if each.name == queue)


def unsent(server: EmbeddedServer) -> int:
    """Bytes that wait for all peers together, in the broker and its sockets."""
    return sum(
        peer._connection._waiting + peer._transport.get_write_buffer_size()
        for peer in server._peers
    )


def put(server: EmbeddedServer, count: int, payload: bytes, queue: str = "q") -> None:
    """Fill a queue without a socket."""
    vhost = server.node.vhosts["/"]
    for _ in range(count):
        vhost.queues[queue].offer(Message("", (queue,), commands.Basic.Properties(), payload))
    server.node.settle()


# Peers that behave badly


async def test_a_peer_that_says_nothing_is_dropped(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the handshake timeout the socket is closed, whether it said nothing or half of it."""
    monkeypatch.setattr(peers, "HANDSHAKE_TIMEOUT", 0.2)
    async with connected(server.port) as silent, connected(server.port) as half:
        half.writer.write(b"AMQP\x00\x00\x09\x01")
        async with asyncio.timeout(9):
            await asyncio.gather(silent.ends(), half.ends())
    await eventually(lambda: not server._peers and not server.node.connections)


async def test_a_peer_that_does_not_answer_our_close_is_dropped(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was closed by an error of the peer's ends, answered or not."""
    monkeypatch.setattr(peers, "CLOSE_TIMEOUT", 0.2)
    async with connected(server.port) as wire:
        await wire.open()
        wire.send(commands.Tx.Select(), channel=7)
        assert (await wire.until(commands.Connection.Close)).reply_code == 504
        await wire.ends()
    await eventually(lambda: not server._peers)


async def test_a_peer_that_closes_and_stays_is_dropped(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its connection.close was answered a peer has a bounded time to end the stream."""
    monkeypatch.setattr(peers, "LEAVE_TIMEOUT", 0.2)
    async with connected(server.port) as wire:
        await wire.open()
        await wire.call(
            commands.Connection.Close(200, "bye", 0, 0), commands.Connection.CloseOk, channel=0
        )
        await wire.ends()
    await eventually(lambda: not server._peers)


async def test_what_a_leaving_peer_held_is_free_at_once(server: EmbeddedServer) -> None:
    """With close-ok its exclusive queue is gone, and what it had unacknowledged is ready."""
    async with connected(server.port) as wire, connected(server.port) as other:
        await wire.open()
        await other.open()
        await other.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        put(server, 1, b"m")
        await wire.call(commands.Queue.Declare(0, "own", exclusive=True), commands.Queue.DeclareOk)
        await wire.call(commands.Basic.Get(0, "q"), commands.Basic.GetOk)
        await wire.call(
            commands.Connection.Close(200, "bye", 0, 0), commands.Connection.CloseOk, channel=0
        )
        assert [each.name for each in server.queues()] == ["q"]
        assert depth(server) == 1
        assert len(server.connections()) == 1


async def test_a_stop_does_not_wait_for_a_peer_that_leaves(server: EmbeddedServer) -> None:
    """A peer whose connection.close was answered, and that stays, does not hold up a stop."""
    async with connected(server.port) as wire:
        await wire.open()
        await wire.call(
            commands.Connection.Close(200, "bye", 0, 0), commands.Connection.CloseOk, channel=0
        )
        async with asyncio.timeout(4.5):
            await server.stop()


async def test_a_burst_of_one_peer_leaves_turns_to_another(server: EmbeddedServer) -> None:
    """While one peer's 20,000 publishes are taken, a second one is answered in between."""
    async with connected(server.port) as busy, connected(server.port) as other:
        await busy.open()
        await other.open()
        await busy.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        busy.writer.write(message("q", b"") * 20_000)
        depths: list[int] = []
        while not depths or depths[-1] < 20_000:
            found = await other.call(
                commands.Queue.Declare(0, "q", passive=True), commands.Queue.DeclareOk
            )
            depths.append(found.message_count or 0)
    assert len(set(depths)) > 10


async def test_a_peer_that_stops_reading_is_waited_for(server: EmbeddedServer) -> None:
    """Deliveries to it stop at a bound, others go on, and it gets all once it reads again."""
    payload, count = b"x" * 10_000, 2000
    async with connected(server.port, receive_buffer=65536) as slow, connected(server.port) as ok:
        await slow.open()
        await slow.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        put(server, count, payload)
        await slow.call(commands.Basic.Consume(0, "q", "c", no_ack=True), commands.Basic.ConsumeOk)
        await ok.open()
        await ok.call(commands.Queue.Declare(0, "other"), commands.Queue.DeclareOk)
        for _ in range(20):
            ok.writer.write(message("other", payload))
            await ok.call(commands.Basic.Get(0, "other", no_ack=True), commands.Basic.GetOk)
        put(server, 500, payload)
        assert unsent(server) < 3 * OUTPUT_HIGH
        assert depth(server) > 500
        for _ in range(count + 500):
            assert await slow.body() == payload
    assert depth(server) == 0


async def test_what_a_slow_peer_took_is_durably_gone(tmp_path: Path) -> None:
    """Deliveries that went on when the stream drained are in the file like any others."""
    async with EmbeddedServer(data=tmp_path) as server:
        async with connected(server.port, receive_buffer=65536) as slow:
            await slow.open()
            declare = commands.Queue.Declare(0, "q", durable=True)
            await slow.call(declare, commands.Queue.DeclareOk)
            slow.writer.write(message("q", b"x" * 100_000, delivery_mode=2) * 50)
            await eventually(lambda: depth(server) == 50)
            slow.send(commands.Basic.Consume(0, "q", "c", no_ack=True))
            for _ in range(50):
                await slow.body()
            kept = server.node.journal._database  # type: ignore[attr-defined]
            assert not kept.in_transaction
        await server.stop(abruptly=True)
    async with EmbeddedServer(data=tmp_path) as again:
        assert depth(again) == 0


async def test_a_peer_that_does_not_read_its_returns_is_not_read(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it makes the broker send is bounded; it gets every return when it reads again."""
    monkeypatch.setattr(peers, "UNREAD_MOST", 1024 * 1024)
    count, payload = 300, b"x" * 65_000
    async with connected(server.port, receive_buffer=65536) as wire:
        await wire.open()
        wire.writer.write(message("nowhere", payload, mandatory=True) * count)
        (peer,) = server._peers
        await eventually(lambda: not peer._transport.is_reading())
        assert unsent(server) < 3 * 1024 * 1024
        for _ in range(count):
            assert (await wire.until(commands.Basic.Return)).reply_code == 312
            assert len(await wire.body()) == len(payload)
        await wire.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)


async def test_a_peer_that_ends_without_closing(server: EmbeddedServer) -> None:
    """What it had unacknowledged is ready again, its exclusive queue and consumers are gone."""
    async with connected(server.port) as wire:
        await wire.open()
        await wire.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        await wire.call(commands.Queue.Declare(0, "own", exclusive=True), commands.Queue.DeclareOk)
        put(server, 3, b"m")
        await wire.call(commands.Basic.Consume(0, "q", "c"), body.ContentBody)
        assert depth(server) == 0
        wire.drop()
        await eventually(lambda: not server.node.connections)
    assert [(each.name, each.ready, each.consumers) for each in server.queues()] == [("q", 3, 0)]


async def test_thousands_of_connections_leave_nothing(server: EmbeddedServer) -> None:
    """Opened and dropped at every stage, 2,000 connections leave no socket, task or timer."""

    async def visit(number: int) -> None:
        async with connected(server.port) as wire:
            if number % 4 == 1:
                wire.writer.write(b"AMQP\x00\x00\x09\x01")
            elif number % 4 == 2:
                wire.writer.write(b"nonsense")
                await wire.ends()
            elif number % 4 == 3:
                await wire.open(heartbeat=60)

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())  # noqa: PTH208

    before = held()
    for start in range(0, 2000, 50):
        await asyncio.gather(*(visit(number) for number in range(start, start + 50)))
    await eventually(lambda: not server._peers and held() == before, what=f"{before}")
    assert not server.node.connections
    loop: Any = asyncio.get_running_loop()
    assert sum(not timer.cancelled() for timer in loop._scheduled) < 20


# Heartbeats


async def test_heartbeats(server: EmbeddedServer) -> None:
    """A peer that misses its heartbeats is dropped, one that sends them stays, and gets some."""
    async with connected(server.port) as silent, connected(server.port) as alive:
        for wire in (silent, alive):
            await wire.open(heartbeat=1)
        # As if tenths of a second could be agreed on.
        for connection in server.node.connections:
            connection.heartbeat = 0.2  # type: ignore[assignment]

        async def beat() -> None:
            while True:
                alive.beat()
                await asyncio.sleep(0.1)

        beating = asyncio.create_task(beat())
        await silent.ends()
        started = time.monotonic()
        while time.monotonic() - started < 0.6:
            assert await alive.read() is not None
        beating.cancel()
        assert len(server.node.connections) == 1
        await alive.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)


async def test_a_blocked_publisher_is_not_dropped_for_its_silence(server: EmbeddedServer) -> None:
    """What it sends while it is blocked is not read, so its silence counts from the unblocking."""
    async with connected(server.port) as wire:
        await wire.open(heartbeat=1)
        await wire.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        (connection,) = server.node.connections
        connection.heartbeat = 0.2  # type: ignore[assignment]
        server.block("low on memory")
        wire.writer.write(message("q", b"m"))
        await wire.until(commands.Connection.Blocked)
        (peer,) = server._peers
        # Longer ago than any interval; a look at it while it is blocked, and one right after.
        peer._received -= 60
        peer._beat()
        server.unblock()
        await wire.until(commands.Connection.Unblocked)
        peer._beat()
        await wire.call(commands.Queue.Declare(0, "q", passive=True), commands.Queue.DeclareOk)
        assert depth(server) == 1


# The broker's end


def test_clients_are_told_that_the_broker_stops(thread: ServerThread) -> None:
    """A client of pika sees 320 CONNECTION_FORCED, not a broken socket."""
    connection = pika.BlockingConnection(pika.URLParameters(thread.url))
    thread.stop()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        connection.process_data_events(5)
    assert caught.value.reply_code == 320
    assert "shutdown" in caught.value.reply_text


async def test_a_stop_does_not_wait_for_a_peer_that_does_not_read(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets its time, and is cut off then."""
    monkeypatch.setattr(peers, "CLOSE_TIMEOUT", 0.2)
    async with connected(server.port, receive_buffer=65536) as wire:
        await wire.open()
        await wire.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        put(server, 100, b"x" * 100_000)
        wire.send(commands.Basic.Consume(0, "q", "c", no_ack=True))
        await eventually(lambda: unsent(server) > 0)
        async with asyncio.timeout(4.5):
            await server.stop()
    assert not server._peers
    assert server.failed is not None
    assert server.failed.result() is None


def test_close_connections(thread: ServerThread) -> None:
    """All are closed with 320 and the reason; the number is told; new ones are taken."""
    connections = [pika.BlockingConnection(pika.URLParameters(thread.url)) for _ in range(3)]
    assert thread.close_connections("an operator's wish") == 3
    for connection in connections:
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="an operator's wish"):
            connection.process_data_events(5)
    pika.BlockingConnection(pika.URLParameters(thread.url)).close()


async def test_it_can_be_started_again(tmp_path: Path) -> None:
    """At the same port, with what was durable; starting it twice is an error."""
    server = EmbeddedServer(data=tmp_path)
    async with server:
        port = server.port
        with pytest.raises(RuntimeError, match="runs already"):
            await server.start()
        async with connected(port) as wire:
            await wire.open()
            declare = commands.Queue.Declare(0, "q", durable=True)
            await wire.call(declare, commands.Queue.DeclareOk)
    await server.stop()
    async with server:
        assert server.port == port
        assert depth(server) == 0


async def full_disk(server: EmbeddedServer, wire: Wire) -> None:
    """A durable queue, and no room for a message in it."""
    await wire.open()
    await wire.call(commands.Queue.Declare(0, "q", durable=True), commands.Queue.DeclareOk)
    await wire.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    database = server.node.journal._database  # type: ignore[attr-defined]
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count={pages}")


async def test_a_full_disk_ends_the_broker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No confirm, no connection, no listener: `failed` and the log say why, and stop works."""
    async with EmbeddedServer(data=tmp_path) as server:
        async with connected(server.port) as wire, connected(server.port) as other:
            await other.open()
            await full_disk(server, wire)
            wire.writer.write(message("q", b"x" * 100_000, delivery_mode=2))
            while (value := await wire.read()) is not None:
                assert not isinstance(value, commands.Basic.Ack)
            await other.ends()
        assert server.failed is not None
        with pytest.raises(DataError, match="disk is full"):
            await server.failed
        with pytest.raises(OSError):  # noqa: PT011 - refused, reset: the system's choice
            await asyncio.open_connection("127.0.0.1", server.port)
        with pytest.raises(DataError):
            await server.advance(1)
        with pytest.raises(DataError):
            server.add_vhost("v")
    assert not server._peers
    assert [r.levelname for r in caplog.records if "the broker stops" in r.message] == ["CRITICAL"]
    async with EmbeddedServer(data=tmp_path) as again:
        assert depth(again) == 0


async def test_a_full_disk_found_by_a_timer_ends_the_broker(tmp_path: Path) -> None:
    """A dead letter that cannot be written is as bad as a message that cannot."""
    async with EmbeddedServer(data=tmp_path) as server:
        async with connected(server.port) as wire:
            await wire.open()
            arguments: dict[str, Any] = {
                "x-message-ttl": 50,
                "x-dead-letter-exchange": "amq.fanout",
            }
            for name, given in (("q", arguments), ("d", None)):
                await wire.call(
                    commands.Queue.Declare(0, name, durable=True, arguments=given),
                    commands.Queue.DeclareOk,
                )
            await wire.call(commands.Queue.Bind(0, "d", "amq.fanout"), commands.Queue.BindOk)
            await wire.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
            wire.writer.write(message("q", b"m", delivery_mode=2))
            await wire.until(commands.Basic.Ack)
            server.node.journal._database.close()  # type: ignore[attr-defined]
            await wire.ends()
        assert server.failed is not None
        with pytest.raises(DataError):
            await server.failed


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_socket_that_is_accepted_as_it_stops_is_closed(turns: int, abruptly: bool) -> None:
    """Whatever the loop had made of it by then, it is not left open, for its peer to wait on."""
    server = EmbeddedServer()
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop(abruptly=abruptly)
        peer.settimeout(2)
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""


async def test_a_timer_that_fails_does_not_stop_the_others(server: EmbeddedServer) -> None:
    """A fault in one timer is reported to the event loop, and later timers run."""
    loop = asyncio.get_running_loop()
    errors: list[Any] = []
    loop.set_exception_handler(lambda _, context: errors.append(context.get("exception")))
    ran = asyncio.Event()

    def fail() -> None:
        raise LookupError("a fault")

    clock = server.node.clock
    clock.call_at(clock.now() + 0.01, fail)
    clock.call_at(clock.now() + 0.02, ran.set)
    async with asyncio.timeout(9):
        await ran.wait()
    assert [type(error) for error in errors] == [LookupError]


async def test_a_fault_in_a_callback_ends_one_connection(server: EmbeddedServer) -> None:
    """An error that is the broker's own costs the connection it happened on, and no other."""
    loop = asyncio.get_running_loop()
    errors: list[Any] = []
    loop.set_exception_handler(lambda _, context: errors.append(context.get("exception")))

    def fail() -> None:
        raise LookupError("a fault")

    async with connected(server.port) as wire, connected(server.port) as other:
        await wire.open()
        await other.open()
        server.node._deferred.append(fail)
        wire.send(commands.Queue.Declare(0, "q"))
        await wire.ends()
        await other.call(commands.Queue.Declare(0, "other"), commands.Queue.DeclareOk)
    assert [type(error) for error in errors] == [LookupError]


# Alarms


def test_blocked_publishers(thread: ServerThread) -> None:
    """A client of pika is told that it is blocked, and its publish waits for the unblocking."""
    with pika.BlockingConnection(pika.URLParameters(thread.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("q")
        said: list[str] = []
        connection.add_on_connection_blocked_callback(
            lambda _, method: said.append(method.method.reason)
        )
        connection.add_on_connection_unblocked_callback(lambda *_: said.append("unblocked"))

        def wait(count: int) -> None:
            deadline = time.monotonic() + 5
            while len(said) < count:
                assert time.monotonic() < deadline
                connection.process_data_events(0.05)

        thread.block("low on memory")
        channel.basic_publish("", "q", b"m")
        wait(1)
        assert thread.queues()[0].ready == 0
        thread.unblock()
        wait(2)
        assert said == ["low on memory", "unblocked"]
        assert channel.queue_declare("q", passive=True).method.message_count == 1


def test_too_much_in_memory_blocks_publishers() -> None:
    """Over the limit pika's publish waits; a consumer goes on, and what was sent then comes."""
    body = bytes(10_000)
    with (
        ServerThread(memory_limit=1_000_000) as server,
        pika.BlockingConnection(pika.URLParameters(server.url)) as publishing,
        pika.BlockingConnection(pika.URLParameters(server.url)) as consuming,
    ):
        publisher, consumer = publishing.channel(), consuming.channel()
        publisher.queue_declare("q")
        said: list[str] = []
        publishing.add_on_connection_blocked_callback(
            lambda _, method: said.append(method.method.reason)
        )
        publishing.add_on_connection_unblocked_callback(lambda *_: said.append("unblocked"))
        sent = 0
        while not said:
            publisher.basic_publish("", "q", body)
            sent += 1
            publishing.process_data_events(0)
            assert sent < 10_000
        assert said == ["low on memory"]
        held = server.queues()[0].ready
        assert 80 < held < 100
        got = 0
        while got < sent:
            method, _, _ = consumer.basic_get("q", auto_ack=True)
            got += method is not None
        publishing.process_data_events(1)
        assert said[1] == "unblocked"


async def test_consumers_are_not_blocked(server: EmbeddedServer) -> None:
    """An alarm holds up who publishes; who only consumes and acknowledges goes on."""
    async with connected(server.port) as wire:
        await wire.open()
        await wire.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        put(server, 2, b"m")
        server.block("low on memory")
        await wire.call(commands.Basic.Get(0, "q"), commands.Basic.GetOk)
        wire.send(commands.Basic.Ack(1))
        await wire.call(commands.Basic.Get(0, "q"), commands.Basic.GetOk)


# Sizes


def test_large_messages(thread: ServerThread) -> None:
    """10 MiB go through in many frames, and come out as they went in."""
    payload = os.urandom(1024) * 1024 * 10
    with pika.BlockingConnection(pika.URLParameters(thread.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("q")
        channel.confirm_delivery()
        for _ in range(2):
            channel.basic_publish("", "q", payload)
        for _ in range(2):
            assert channel.basic_get("q", auto_ack=True)[2] == payload


async def test_a_deep_queue_is_drained_without_a_deep_buffer(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 messages to a no-ack consumer never fill its output to more than the bound."""
    largest = 0
    output = Connection.output

    def spy(connection: Connection) -> bytes:
        nonlocal largest
        data = output(connection)
        largest = max(largest, len(data))
        return data

    monkeypatch.setattr(Connection, "output", spy)
    async with connected(server.port) as wire:
        await wire.open()
        await wire.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        put(server, 100_000, b"last" * 10)
        wire.send(commands.Basic.Consume(0, "q", "c", no_ack=True))
        end = b"deliver" * 3
        put(server, 1, end)
        received = 0
        tail = b""
        async with asyncio.timeout(60):
            while end not in tail:
                data = await wire.reader.read(1 << 20)
                assert data
                received += len(data)
                tail = tail[-100:] + data
    assert received > 100_000 * 40
    # Each write counts for more than its bytes: that of small messages takes time, too.
    assert OUTPUT_HIGH / 10 < largest < OUTPUT_HIGH + 10_000


async def test_a_small_frame_max_is_honoured(server: EmbeddedServer) -> None:
    """A client that asked for 8192 gets no larger frame, and one that has more gets larger ones."""
    payload = os.urandom(50_000)
    async with connected(server.port) as small, connected(server.port) as large:
        await small.open(frame_max=8192)
        await large.open()
        await large.call(commands.Queue.Declare(0, "q"), commands.Queue.DeclareOk)
        large.writer.write(message("q", payload) * 2)
        for wire, largest in ((small, 8192), (large, 50_008)):
            await wire.call(commands.Basic.Get(0, "q", no_ack=True), commands.Basic.GetOk)
            assert await wire.body() == payload
            assert wire.largest == largest


# Addresses


async def test_an_ipv6_address() -> None:
    """`::1` is in brackets in the URL, and can be connected to where the system has it."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            has_ipv6 = True
    except OSError:
        has_ipv6 = False
    server = EmbeddedServer(host="::1")
    if not has_ipv6:
        with pytest.raises(OSError, match="::1"):
            await server.start()
        return
    async with server:
        assert server.url == f"amqp://guest:guest@[::1]:{server.port}/"
        async with connected(server.port, "::1") as wire:
            await wire.open()


async def test_a_port_in_use(tmp_path: Path) -> None:
    """It is an OSError, and leaves the directory free for the next broker."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await EmbeddedServer(port=port, data=tmp_path).start()
        with pytest.raises(OSError, match="in use"):
            ServerThread(port=port, data=tmp_path).start()
    async with EmbeddedServer(data=tmp_path):
        pass


def test_a_start_without_an_event_loop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may open no more files cannot make one; whoever starts it is told."""

    def refuse() -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    monkeypatch.setattr(asyncio.events, "new_event_loop", refuse)
    with pytest.raises(OSError, match="too many open files"):
        ServerThread().start()


def test_a_password_with_signs_in_it() -> None:
    """The URL can be used as it is, whatever the name and the password are made of."""
    with ServerThread(users={"an/n": "p@ss:w%rd/?#"}) as running:
        assert urlsplit(running.url).hostname == "127.0.0.1"
        pika.BlockingConnection(pika.URLParameters(running.url)).close()


def test_a_broker_without_users_is_refused() -> None:
    """Nobody could ever log in."""
    with pytest.raises(ValueError, match="give it users"):
        EmbeddedServer(users={})


# Threads


def in_threads(*works: Callable[[], None]) -> list[BaseException]:
    """Run them all at once; what they raised. Fails if one does not end."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
        assert not each.is_alive(), "a call did not come back"
    return errors


def test_many_threads_use_one_broker(thread: ServerThread) -> None:
    """Eight threads that declare, publish, look, advance and administer do not disturb another."""

    def client(number: int) -> None:
        with pika.BlockingConnection(pika.URLParameters(thread.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for turn in range(20):
                channel.queue_declare(f"q{number}")
                channel.basic_publish("", f"q{number}", b"%d" % turn)

    def administrator(number: int) -> None:
        for turn in range(20):
            name = f"v{number}-{turn}"
            thread.add_vhost(name)
            thread.set_permissions("guest", name, ".*", ".*", ".*")
            assert thread.queues(name) == []
            thread.advance(1)
            thread.delete_vhost(name)

    works: list[Callable[[], None]] = []
    for number in range(4):
        works += [lambda n=number: client(n), lambda n=number: administrator(n)]  # type: ignore[misc]
    assert in_threads(*works) == []
    assert sorted((q.name, q.ready) for q in thread.queues()) == [(f"q{n}", 20) for n in range(4)]
    assert [m.body for m in thread.messages("q0")] == [b"%d" % turn for turn in range(20)]


def test_time_passes_by_another_threads_word(thread: ServerThread) -> None:
    """An hour's TTL is over once `advance` has returned, and the dead letter is where it goes."""
    with pika.BlockingConnection(pika.URLParameters(thread.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("dead")
        channel.queue_declare(
            "q",
            arguments={
                "x-message-ttl": 3_600_000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "dead",
            },
        )
        channel.basic_publish("", "q", b"m")
        channel.queue_declare("q", passive=True)
        assert in_threads(lambda: thread.advance(3599)) == []
        assert thread.messages("dead") == []
        assert in_threads(lambda: thread.advance(2)) == []
        assert [each.body for each in thread.messages("dead")] == [b"m"]
    with pytest.raises(ValueError, match="forward only"):
        thread.advance(-1)


def test_a_stop_during_calls_leaves_no_thread_waiting(thread: ServerThread) -> None:
    """Calls that come while it stops end with RuntimeError, as do those after it; stops agree."""

    def call() -> None:
        while True:
            thread.queues()

    works = [call, call, call, call, thread.stop, thread.stop]
    errors = in_threads(*works)
    assert [type(error) for error in errors] == [RuntimeError] * 4
    assert "stopped" in str(errors[0])
    with pytest.raises(RuntimeError, match="stopped"):
        thread.advance(1)
    thread.start()
    assert thread.queues() == []
    with pytest.raises(RuntimeError, match="runs already"):
        thread.start()


# Other clients


def test_plain_pika(thread: ServerThread) -> None:
    """BlockingConnection declares, publishes with confirms, consumes and acknowledges."""
    with pika.BlockingConnection(pika.URLParameters(thread.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish("", "nowhere", b"m", mandatory=True)
        for number in range(10):
            channel.basic_publish("", "q", b"%d" % number, mandatory=True)
        found = []
        for method, _, payload in channel.consume("q", inactivity_timeout=0.2):
            if method is None:
                break
            found.append(payload)
            channel.basic_ack(method.delivery_tag)
        channel.cancel()
        assert found == [b"%d" % number for number in range(10)]
        assert channel.queue_declare("q", passive=True).method.message_count == 0


async def test_robust_aio_pika(server: EmbeddedServer) -> None:
    """connect_robust declares, publishes, consumes, and comes back after a forced close."""
    connection = await aio_pika.connect_robust(server.url, reconnect_interval=0.05)
    async with connection, asyncio.timeout(30):
        channel = await connection.channel()
        queue = await channel.declare_queue("q", durable=True)
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def take(incoming: aio_pika.abc.AbstractIncomingMessage) -> None:
            await incoming.ack()
            received.put_nowait(incoming.body)

        await queue.consume(take)
        await channel.default_exchange.publish(aio_pika.Message(b"one"), "q")
        assert await received.get() == b"one"
        server.close_connections("an operator's wish")
        await eventually(lambda: server.queues()[0].consumers == 0)
        await eventually(lambda: server.queues()[0].consumers == 1)
        await channel.default_exchange.publish(aio_pika.Message(b"two"), "q")
        assert await received.get() == b"two"


@pytest.fixture(autouse=True)
def _no_internal_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A fault of the broker's own is logged by it; none of these tests may cause one."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(caplog.at_level(logging.INFO, "mqkit.embedded"))
        yield
    ours = [r for r in caplog.get_records("call") if r.name.startswith("mqkit.")]
    assert [r for r in ours if "internal error" in r.getMessage()] == []
