"""A TCP proxy in front of a broker that fails as networks do, for tests of what comes then.

    with TcpProxy(broker.url) as proxy:
        connect(proxy.url)
        proxy.stall()  # a network that swallows everything, or a broker that hangs
        ...
        proxy.resume()

It runs in one thread of its own and so serves synchronous and asynchronous tests alike. A method
has taken effect when it returns. What it sets holds for present and future connections until
`heal`, unless it says otherwise, and faults may be combined.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.errors import ConfigurationError, MqkitError
from mqkit.settings import BrokerUrl
from mqkit.testing.proxy.faults import Faults, Garble, Trap
from mqkit.testing.proxy.relay import HEARTBEAT, Pipe
from mqkit.testing.proxy.server import HOST, RelayServer

__all__ = ["ACK_FRAME", "HEARTBEAT", "Direction", "ProxyClosedError", "TcpProxy"]

Direction = Literal["to_broker", "to_client", "both"]
"""Which way the bytes go that a fault is about."""

ACK_FRAME = re.compile(rb"\x01..\x00\x00\x00\x0d\x00\x3c\x00\x50.{9}\xce", re.DOTALL)
"""A whole `basic.ack` frame: to the broker an acknowledgement, to the client a confirm
(AMQP 0-9-1, sections 2.3.5 and 1.8.3.13)."""

COMMAND_TIMEOUT = 10.0
"""Seconds for the proxy's thread to do as it is told, which takes well under a millisecond."""

OCTET = 0xFF

T = TypeVar("T")


def _is_of_bytes(pattern: object) -> bool:
    return isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, bytes)


class ProxyClosedError(MqkitError):
    """The proxy was used outside its `with` block."""


class TcpProxy:
    """Relays TCP connections to the first host of a broker's URL; a context manager.

    `async with` does the same as `with`, and does not block the event loop at the end. On
    leaving, what is on its way is delivered, what a fault holds is dropped, and every connection
    is closed. With `amqps`, the certificate is checked against the URL's `server_name`.

    :raises mqkit.errors.BrokerUrlError: the URL is malformed
    """

    def __init__(self, url: str) -> None:
        self._broker = BrokerUrl.parse(url).hosts[0]
        self._parts = urlsplit(url.strip())
        self._relay: RelayServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 that it listens on; it stays the same while it runs.

        :raises ProxyClosedError: it was not started
        """
        return self._running.port

    @property
    def url(self) -> str:
        """The broker's URL, with the proxy's address in the place of the broker's."""
        userinfo, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{userinfo}{at}{HOST}:{self.port}"))

    @property
    def connections(self) -> int:
        """How many connections were made through it to the broker."""
        return self._running.connections

    @property
    def sent_heartbeats(self) -> int:
        """Heartbeat frames that clients sent, whether they were relayed or not."""
        return self._running.to_broker.heartbeats

    def relayed(self, direction: Direction) -> int:
        """Count the bytes that went on in this direction, over all connections."""
        return sum(faults.relayed for faults in self._faults(direction))

    # --- what becomes of the bytes -----------------------------------------------------------

    def stall(self, direction: Direction = "both") -> None:
        """Relay nothing until `resume`, and hold what comes; new connections are still taken."""
        self._set(direction, lambda faults: faults.flowing.clear())

    def resume(self, direction: Direction = "both") -> None:
        """End a stall: relay what was held, and go on."""
        self._set(direction, lambda faults: faults.flowing.set())

    def delay(self, seconds: Seconds, direction: Direction = "both") -> None:
        """Wait so long before each piece: what is read at once, or what `split` makes of it."""
        delay = checked.seconds(seconds, "a delay")
        self._set(direction, lambda faults: setattr(faults, "delay", delay))

    def split(self, size: int = 1, direction: Direction = "both") -> None:
        """Send pieces of `size` bytes at most.

        The receiver's system may still hand over several at once; with `delay` it cannot.
        """
        checked.count(size, "split(size=...)")
        self._set(direction, lambda faults: setattr(faults, "piece", size))

    def drop(self, direction: Direction = "both") -> None:
        """Read and discard, the end of a stream included: the sender sees nothing of it."""
        self._set(direction, lambda faults: setattr(faults, "dropping", True))

    def garble(
        self,
        direction: Direction,
        *,
        at: int | None = None,
        every: int | None = None,
        mask: int = OCTET,
    ) -> None:
        """Flip the bits of `mask` in the byte at offset `at`; with `every`, in each so manieth.

        With both, `at` is the first one. Offsets count from 0 on each connection, beginning when
        this is called or with the connection.
        """
        if at is None and every is None:
            raise ConfigurationError("garble takes the offset `at`, or `every`, or both")
        if not (
            (at is None or checked.is_whole(at, 0))
            and (every is None or checked.is_whole(every, 1))
            and checked.is_whole(mask, 1, OCTET)
        ):
            raise ConfigurationError("garble takes at=0 or more, every=1 or more, mask=1 to 255")
        garble = Garble((every or 1) - 1 if at is None else at, every, mask)
        self._set(direction, lambda faults: setattr(faults, "garble", garble))

    def heal(self) -> None:
        """End all lasting faults, for bytes and for new connections."""
        self._set("both", Faults.heal)
        self.accept_connections()

    # --- what becomes of the connections -----------------------------------------------------

    def cut(self, *, reset: bool = False) -> int:
        """Close both sides of the present connections, and say how many were relayed.

        With `reset` both peers get a TCP reset, which most see as an error rather than as the
        end of the stream; bytes that they did not read yet may be lost with it.
        """
        return self._do(lambda relay: relay.cut(reset=reset))

    def cut_after(
        self,
        direction: Direction,
        *,
        count: int | None = None,
        pattern: bytes | re.Pattern[bytes] | None = None,
        reset: bool = False,
    ) -> concurrent.futures.Future[None]:
        """Cut the first connection on which, from now on, `count` bytes passed or `pattern` did.

        The bytes up to there are relayed, the pattern's last one included, and none after them.
        A pattern may lie across pieces if it is up to 4,096 bytes long; `ACK_FRAME` is one.

        It happens once. The future is done when that connection is closed: `.result(5)`, or
        `await asyncio.wrap_future(...)`. It is cancelled by another `cut_after` in the same
        direction, by `heal`, and at the end.
        """
        if (count is None) == (pattern is None) or pattern == b"":
            raise ConfigurationError("cut_after takes either a count of bytes or a pattern")
        if count is not None:
            checked.count(count, "cut_after(count=...)")
        if isinstance(pattern, bytes):
            pattern = re.compile(re.escape(pattern))
        if not (pattern is None or _is_of_bytes(pattern)):
            raise ConfigurationError(
                "cut_after(pattern=...) is bytes, or a compiled pattern of them"
            )
        trap = Trap(count, pattern, reset)
        self._set(direction, lambda faults: faults.lay(trap))
        return trap.sprung

    def half_close(self, direction: Direction) -> None:
        """End the stream of the present connections in one direction; the other goes on.

        The receiver reads the end of the stream. What the sender still sends is discarded.
        """
        self._each_pipe(direction, Pipe.finish)

    def forget(self) -> None:
        """Never relay on the present connections again, without closing them.

        As a firewall does that has lost its table: neither side is told. New connections work.
        """
        self._each_pipe("both", Pipe.forget)

    def refuse_connections(self) -> None:
        """Refuse new connections, as where nothing listens; the present ones go on."""
        self._do(RelayServer.refuse)

    def ignore_connections(self) -> None:
        """Accept new connections and say nothing on them; the present ones go on."""
        self._do(lambda relay: relay.accept(ignoring=True))

    def accept_connections(self) -> None:
        """Relay new connections again; those that were ignored stay ignored until `cut`."""
        self._do(lambda relay: relay.accept(ignoring=False))

    # --- its life ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._relay = RelayServer(self._broker.name, self._broker.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"mqkit TCP proxy {self.port}", daemon=True
        )
        self._thread.start()
        try:
            self.heal()
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._do(RelayServer.finish)
        finally:
            self._end_thread()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await asyncio.wrap_future(self._submit(RelayServer.finish))
        finally:
            self._end_thread()

    @property
    def _running(self) -> RelayServer:
        if self._relay is None:
            raise ProxyClosedError("the proxy was not started: use it inside its `with` block")
        return self._relay

    def _faults(self, direction: Direction) -> list[Faults]:
        known = {"to_broker": [self._running.to_broker], "to_client": [self._running.to_client]}
        known["both"] = known["to_broker"] + known["to_client"]
        if direction not in known:
            raise ConfigurationError(f"a direction is one of {', '.join(known)}, not {direction!r}")
        return known[direction]

    def _set(self, direction: Direction, change: Callable[[Faults], object]) -> None:
        async def work(_: RelayServer) -> None:
            for faults in self._faults(direction):
                change(faults)

        self._do(work)

    def _each_pipe(self, direction: Direction, change: Callable[[Pipe], None]) -> None:
        async def work(relay: RelayServer) -> None:
            chosen = self._faults(direction)
            for link in relay.links:
                for pipe in (link.to_broker, link.to_client):
                    if any(pipe.faults is each for each in chosen):
                        change(pipe)

        self._do(work)

    def _submit(
        self, work: Callable[[RelayServer], Coroutine[Any, Any, T]]
    ) -> concurrent.futures.Future[T]:
        if self._loop is None or self._loop.is_closed():
            raise ProxyClosedError("the proxy does not run: use it inside its `with` block")
        return asyncio.run_coroutine_threadsafe(work(self._running), self._loop)

    def _do(self, work: Callable[[RelayServer], Coroutine[Any, Any, T]]) -> T:
        return self._submit(work).result(COMMAND_TIMEOUT)

    def _end_thread(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
