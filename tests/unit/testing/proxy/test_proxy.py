from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from mqkit.errors import BrokerUrlError, ConfigurationError
from mqkit.testing.proxy.proxy import ACK_FRAME, HEARTBEAT, Direction, ProxyClosedError, TcpProxy

WITHIN = 5.0
"""Seconds for bytes to come through."""

AWHILE = 0.15
"""Seconds in which what must not come through would have come."""


class FarSide:
    """In the place of a broker: the test holds its listener and the socket of each connection."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WITHIN)
        self.url = f"amqp://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> socket.socket:
        accepted, _ = self.listener.accept()
        accepted.settimeout(WITHIN)
        return accepted


@pytest.fixture
def far() -> Iterator[FarSide]:
    far = FarSide()
    with far.listener:
        yield far


@pytest.fixture
def proxy(far: FarSide) -> Iterator[TcpProxy]:
    with TcpProxy(far.url) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=WITHIN)


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with connect(proxy) as client:
        yield client


@pytest.fixture
def server(far: FarSide, client: socket.socket) -> Iterator[socket.socket]:
    """The broker's end of the client's connection."""
    with far.accept() as server:
        yield server


def read(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := source.recv(size - len(data))):
        data += piece
    return data


def is_silent(source: socket.socket) -> bool:
    """Nothing comes, not even the end of the stream."""
    source.settimeout(AWHILE)
    try:
        source.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        source.settimeout(WITHIN)
    return False


def passes(source: socket.socket, target: socket.socket, data: bytes = b"through?") -> bool:
    source.sendall(data)
    return read(target, len(data)) == data


def test_bytes_go_both_ways(proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
    """Without a fault everything passes, in order, and is counted."""
    data = bytes(range(256)) * 4096
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert read(server, len(data)) == data
    sender.join()
    assert passes(server, client, b"answer")
    assert (proxy.relayed("to_broker"), proxy.relayed("to_client")) == (len(data), 6)
    assert proxy.relayed("both") == len(data) + 6
    assert proxy.connections == 1


def test_the_url_is_the_brokers_with_another_address() -> None:
    """User, virtual host and parameters stay; the first host is replaced, and it alone relayed."""
    with TcpProxy("amqp://me:s%40cret@127.0.0.1:1,127.0.0.1:2/x%2Fy?heartbeat=3") as proxy:
        assert proxy.url == f"amqp://me:s%40cret@127.0.0.1:{proxy.port}/x%2Fy?heartbeat=3"
    with TcpProxy("amqp://127.0.0.1:1") as proxy:
        assert proxy.url == f"amqp://127.0.0.1:{proxy.port}"


def test_a_malformed_url_is_an_error() -> None:
    """It is refused when the proxy is made."""
    with pytest.raises(BrokerUrlError):
        TcpProxy("127.0.0.1:5672")


def test_the_end_of_a_stream_leaves_the_other_direction_open(
    client: socket.socket, server: socket.socket
) -> None:
    """A client that has said its last still gets the whole answer."""
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read(server, 100) == b"question"
    assert passes(server, client, b"answer")
    server.close()
    assert client.recv(1) == b""


def test_a_broker_that_is_not_there_closes_the_client() -> None:
    """A client whose broker cannot be reached reads the end of the stream, and so does the next."""
    with TcpProxy("amqp://127.0.0.1:1") as proxy:
        for _ in range(2):
            with connect(proxy) as client:
                assert client.recv(1) == b""
        assert proxy.connections == 0


@pytest.mark.parametrize("direction", ["to_broker", "to_client"])
def test_stall_holds_one_direction(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, direction: Direction
) -> None:
    """What is stalled comes after resume, whole; the other direction goes on."""
    there, back = (client, server) if direction == "to_broker" else (server, client)
    proxy.stall(direction)
    there.sendall(b"held")
    assert is_silent(back)
    assert passes(back, there)
    proxy.resume(direction)
    assert read(back, 4) == b"held"


def test_stall_holds_the_end_of_a_stream(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """While it is stalled neither side learns that the other has closed."""
    proxy.stall()
    client.close()
    assert is_silent(server)
    proxy.resume()
    assert server.recv(1) == b""


def test_a_stalled_proxy_takes_connections(proxy: TcpProxy, far: FarSide) -> None:
    """A connection made during a stall works after it."""
    proxy.stall()
    with connect(proxy) as client, far.accept() as server:
        client.sendall(b"x")
        assert is_silent(server)
        proxy.resume()
        assert server.recv(1) == b"x"


def test_delay_holds_each_piece_so_long(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """The delayed direction takes the delay at least, the other one none."""
    proxy.delay(0.2, "to_broker")
    began = time.monotonic()
    assert passes(server, client)
    assert time.monotonic() - began < 0.2
    assert passes(client, server)
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("size", [1, 3])
def test_split_makes_small_pieces(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, size: int
) -> None:
    """With a delay between them, the receiver reads pieces of that size, and all of the bytes."""
    proxy.split(size, "to_broker")
    proxy.delay(0.02, "to_broker")
    client.sendall(b"0123456789")
    pieces: list[bytes] = []
    while len(b"".join(pieces)) < 10:
        pieces.append(server.recv(100))
    assert b"".join(pieces) == b"0123456789"
    assert all(len(piece) % size == 0 for piece in pieces[:-1])
    # All of them, but for those that a busy machine lets come together.
    assert len(pieces) > 10 / size / 2


def test_a_split_stream_loses_nothing(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """60,000 bytes one by one are the same 60,000 bytes."""
    data = bytes(n * n % 251 for n in range(60_000))
    proxy.split(1)
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert read(server, len(data)) == data
    sender.join()


def test_drop_discards_one_direction(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """What was dropped never comes, nor does the end of the stream; the other direction goes on."""
    proxy.drop("to_broker")
    client.sendall(b"lost")
    client.shutdown(socket.SHUT_WR)
    assert is_silent(server)
    assert passes(server, client)
    proxy.heal()
    assert is_silent(server)


def test_a_dropped_end_does_not_hold_up_leaving(far: FarSide) -> None:
    """A connection whose end was dropped is closed at once at the end of the proxy."""
    with TcpProxy(far.url) as proxy:
        client = connect(proxy)
        server = far.accept()
        proxy.drop("to_broker")
        client.close()
        assert is_silent(server)
        proxy.heal()
        began = time.monotonic()
    assert time.monotonic() - began < 0.5
    with server:
        assert server.recv(1) == b""


def test_drop_ends_with_heal(proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
    """After heal the next bytes come, and the dropped ones do not."""
    proxy.drop("to_broker")
    client.sendall(b"lost")
    assert is_silent(server)
    proxy.heal()
    assert passes(client, server, b"found")


def test_garble_flips_one_byte(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """The byte at the offset is flipped in this direction, counted from the call, over pieces."""
    assert passes(client, server, b"before")
    proxy.garble("to_broker", at=3, mask=0x20)
    for piece in (b"ab", b"cdef", b"ghij"):
        client.sendall(piece)
        assert read(server, len(piece)) == piece.replace(b"d", b"D")
    proxy.garble("to_broker", at=0, mask=0x20)
    client.sendall(b"anew")
    assert read(server, 4) == b"Anew"
    assert passes(server, client, b"abcdef")


@pytest.mark.parametrize(
    ("at", "expected"), [(None, b"abCdeFghIj"), (0, b"AbcDefGhiJ"), (4, b"abcdEfgHij")]
)
def test_garble_flips_every_so_manieth_byte(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, at: int | None, expected: bytes
) -> None:
    """`every=3` flips the third, sixth and ninth byte, or from `at` on; however they are cut up."""
    proxy.garble("to_broker", at=at, every=3, mask=0x20)
    got = b""
    for piece in (b"a", b"bcde", b"fghij"):
        client.sendall(piece)
        got += read(server, len(piece))
    assert got == expected


def test_garble_counts_on_each_connection(proxy: TcpProxy, far: FarSide) -> None:
    """A connection made later has its own byte at that offset flipped."""
    proxy.garble("to_client", at=1)
    for _ in range(2):
        with connect(proxy) as client, far.accept() as server:
            server.sendall(b"\x00\x00\x00")
            assert read(client, 3) == b"\x00\xff\x00"


def test_cut_closes_both_sides(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, far: FarSide
) -> None:
    """Both peers read the end of the stream; new connections are relayed."""
    assert passes(client, server)
    assert proxy.cut() == 1
    assert client.recv(1) == b""
    assert server.recv(1) == b""
    assert proxy.cut() == 0
    with connect(proxy) as again, far.accept() as behind:
        assert passes(again, behind)


def test_cut_is_the_end_of_a_stream_though_bytes_wait(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """A peer whose last bytes were not taken reads an end, not an error: `reset` is for that."""
    assert passes(client, server)
    proxy.stall()
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while client.send(bytes(1 << 20)):
            time.sleep(0.01)
    client.settimeout(WITHIN)
    proxy.cut()
    assert client.recv(1) == b""


def test_last_words_pass_though_their_sender_is_gone(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """What a broker sent before it went away comes, though nothing can be sent to it any more."""
    assert passes(client, server)
    proxy.stall("to_client")
    server.sendall(b"last words")
    assert is_silent(client)
    server.close()
    for _ in range(20):
        client.sendall(b"into the void")
        time.sleep(0.005)
    proxy.resume()
    assert read(client, 100) == b"last words"


def test_cut_with_reset_is_an_error_to_both(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """Both peers get ECONNRESET."""
    assert passes(client, server)
    assert proxy.cut(reset=True) == 1
    for side in (client, server):
        with pytest.raises(ConnectionResetError):
            side.recv(1)


def test_cut_after_a_count(proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
    """That many bytes come, from the call on, and then the end of the stream."""
    assert passes(client, server, b"before")
    cut = proxy.cut_after("to_broker", count=10)
    assert passes(client, server, b"1234")
    assert passes(server, client, b"does not count")
    assert not cut.done()
    client.sendall(b"567890 and more")
    assert read(server, 100) == b"567890"
    assert client.recv(1) == b""
    cut.result(WITHIN)


def test_cut_after_the_last_byte_of_a_piece(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """The cut comes with the last byte of the count, not with the first one after it."""
    proxy.cut_after("to_broker", count=4)
    client.sendall(b"1234")
    assert read(server, 100) == b"1234"


def test_cut_after_a_pattern(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, far: FarSide
) -> None:
    """The pattern is relayed to its last byte and nothing after it, though pieces divide it."""
    cut = proxy.cut_after("to_broker", pattern=b"STOP!")
    assert passes(client, server, b"go on... ST")
    assert passes(client, server, b"O")
    assert not cut.done()
    client.sendall(b"P! and more")
    assert read(server, 100) == b"P!"
    cut.result(WITHIN)
    with connect(proxy) as again, far.accept() as behind:
        assert passes(again, behind, b"STOP! is past, it happens once")


def test_cut_after_cuts_one_connection(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, far: FarSide
) -> None:
    """Only the connection on which the pattern passed is cut; none adds up with another."""
    with connect(proxy) as other, far.accept() as behind:
        cut = proxy.cut_after("to_client", pattern=re.compile(rb"a.c"), reset=True)
        assert passes(server, client, b"a")
        assert passes(behind, other, b"bc")
        assert not cut.done()
        server.sendall(b"bc")
        cut.result(WITHIN)
        assert passes(other, behind)
        with pytest.raises(ConnectionResetError):
            server.recv(1)


def test_an_ack_frame_is_a_pattern(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """ACK_FRAME finds a basic.ack on any channel and with any tag, whole, and no basic.nack."""
    ack = b"\x01\x00\x0a\x00\x00\x00\x0d\x00\x3c\x00\x50" + bytes(7) + b"\xce\x01\xce"
    nack = ack.replace(b"\x00\x50", b"\x00\x78")
    cut = proxy.cut_after("to_broker", pattern=ACK_FRAME)
    assert passes(client, server, nack + ack[:-1])
    assert not cut.done()
    client.sendall(ack[-1:] + nack)
    assert read(server, 100) == ack[-1:]
    cut.result(WITHIN)


def test_a_cut_that_cannot_come_any_more_is_cancelled(far: FarSide) -> None:
    """Who waits for it is told, when another takes its place, by heal, and at the end."""
    with TcpProxy(far.url) as proxy:
        first = proxy.cut_after("to_broker", count=1)
        second = proxy.cut_after("to_broker", count=1)
        assert first.cancelled()
        proxy.heal()
        assert second.cancelled()
        third = proxy.cut_after("to_broker", count=1)
    with pytest.raises(CancelledError):
        third.result(0)


def test_half_close_ends_one_direction(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """The receiver reads the end of the stream, and its own bytes still go through."""
    assert passes(server, client)
    proxy.half_close("to_client")
    assert client.recv(1) == b""
    server.sendall(bytes(16 << 20))  # discarded, and more than would wait unread
    assert passes(client, server)


def test_forget_leaves_the_present_connections_dead(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, far: FarSide
) -> None:
    """Nothing passes on them any more, not even a reset; a new one works."""
    assert passes(client, server)
    proxy.forget()
    client.sendall(b"x")
    server.sendall(b"y")
    assert is_silent(server)
    assert is_silent(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert is_silent(server)
    with connect(proxy) as again, far.accept() as behind:
        assert passes(again, behind)


def test_refused_connections(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, far: FarSide
) -> None:
    """New ones are refused, the present one goes on, and the port is the same afterwards."""
    port = proxy.port
    proxy.refuse_connections()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    assert passes(client, server)
    proxy.accept_connections()
    assert proxy.port == port
    with connect(proxy) as again, far.accept() as behind:
        assert passes(again, behind)


def test_ignored_connections(
    proxy: TcpProxy, client: socket.socket, server: socket.socket, far: FarSide
) -> None:
    """New ones are accepted and hear nothing, the broker does not see them; later ones work."""
    assert passes(client, server)
    proxy.ignore_connections()
    with connect(proxy) as ignored:
        ignored.sendall(b"hello?")
        assert is_silent(ignored)
        assert passes(client, server)
        proxy.accept_connections()
        with connect(proxy) as again, far.accept() as behind:
            assert passes(again, behind)
        assert is_silent(ignored)
        assert proxy.connections == 2


def test_faults_combine(proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
    """A stream may be split, garbled and cut at once."""
    proxy.split(2)
    proxy.garble("to_broker", every=2, mask=0x20)
    proxy.cut_after("to_broker", count=5)
    client.sendall(b"abcdefgh")
    assert read(server, 100) == b"aBcDe"


def test_heartbeats_are_counted(
    proxy: TcpProxy, client: socket.socket, server: socket.socket
) -> None:
    """Each heartbeat frame of a client counts once, in however many pieces it comes."""
    for piece in (HEARTBEAT * 2, HEARTBEAT[:3], HEARTBEAT[3:] + b"\x01", HEARTBEAT):
        assert passes(client, server, piece)
    assert proxy.sent_heartbeats == 4


def test_leaving_delivers_what_is_on_its_way(far: FarSide) -> None:
    """Bytes sent before the end of the proxy arrive, though it ends at once and they are many."""
    for _ in range(20):
        with TcpProxy(far.url) as proxy:
            client = connect(proxy)
            server = far.accept()
            client.sendall(bytes(50_000))
            server.sendall(bytes(50_000))
        with client, server:
            assert len(read(server, 50_001)) == 50_000
            assert len(read(client, 50_001)) == 50_000


def test_leaving_drops_what_is_held(far: FarSide) -> None:
    """What a stall holds does not come through at the end, when nobody expects it."""
    with TcpProxy(far.url) as proxy:
        client = connect(proxy)
        server = far.accept()
        proxy.stall()
        client.sendall(b"held")
    with client, server:
        assert server.recv(1) == b""


@pytest.mark.parametrize("fault", ["stall", "drop", "forget", "ignore_connections", "full"])
def test_leaving_leaves_nothing(far: FarSide, fault: str) -> None:
    """Whatever was wrong, threads, connections and port are gone soon after."""
    threads = threading.active_count()
    began = time.monotonic()
    with TcpProxy(far.url) as proxy:
        client = connect(proxy)
        server = far.accept()
        if fault == "full":
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while client.send(bytes(1 << 20)):
                    time.sleep(0.01)
            client.settimeout(WITHIN)
        else:
            getattr(proxy, fault)()
        late = connect(proxy)
    assert time.monotonic() - began < (3 if fault == "full" else 0.8)
    assert threading.active_count() == threads
    with client, server, late:
        for side in (client, late):
            with contextlib.suppress(ConnectionResetError):
                assert side.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


async def test_it_serves_an_event_loop(far: FarSide) -> None:
    """In an asynchronous test its methods may be called as they are, and a cut awaited."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with TcpProxy(f"amqp://127.0.0.1:{port}") as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            proxy.delay(0.01)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            cut = proxy.cut_after("to_client", count=3)
            writer.write(b"hello")
            await asyncio.wait_for(asyncio.wrap_future(cut), WITHIN)
            assert await reader.read() == b"hel"
            writer.close()
            await writer.wait_closed()


def test_outside_its_block_it_says_so(far: FarSide) -> None:
    """Before it is entered and after it was left, its methods raise ProxyClosedError."""
    proxy = TcpProxy(far.url)
    with pytest.raises(ProxyClosedError):
        _ = proxy.url
    with pytest.raises(ProxyClosedError):
        proxy.cut()
    with proxy:
        pass
    with pytest.raises(ProxyClosedError):
        proxy.stall()


@pytest.mark.parametrize(
    "call",
    [
        lambda proxy: proxy.stall("up"),
        lambda proxy: proxy.half_close("up"),
        lambda proxy: proxy.delay(-1),
        lambda proxy: proxy.split(0),
        lambda proxy: proxy.garble("to_broker"),
        lambda proxy: proxy.garble("to_broker", at=-1),
        lambda proxy: proxy.garble("to_broker", every=0),
        lambda proxy: proxy.garble("to_broker", at=0, mask=0),
        lambda proxy: proxy.cut_after("to_broker"),
        lambda proxy: proxy.cut_after("to_broker", count=1, pattern=b"x"),
        lambda proxy: proxy.cut_after("to_broker", count=0),
        lambda proxy: proxy.cut_after("to_broker", pattern=b""),
        lambda proxy: proxy.cut_after("to_broker", pattern="x"),
        lambda proxy: proxy.cut_after("to_broker", pattern=re.compile("x")),
    ],
)
def test_what_makes_no_sense_is_refused(proxy: TcpProxy, call: object) -> None:
    """An argument that no fault can have is a ConfigurationError, and no fault is set."""
    assert callable(call)
    with pytest.raises(ConfigurationError):
        call(proxy)
