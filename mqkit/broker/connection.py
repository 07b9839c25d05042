"""A connection that is opened again when it is lost, for any driver."""

from __future__ import annotations

import asyncio
import logging

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    stop_never,
)

from mqkit.broker.checking import checking
from mqkit.broker.reconnect import (
    Hosts,
    tell_failed_round,
    wait_after_losses,
    wait_between_rounds,
    worth_trying_again,
)
from mqkit.clock import monotonic
from mqkit.drivers.base import Driver, DriverChannel, DriverConnection
from mqkit.errors import ChannelClosedError, ConnectError
from mqkit.logging.error_reports import log_problem
from mqkit.logging.outages import OutageLog
from mqkit.logging.shown import shown
from mqkit.settings import BrokerUrl, Host

logger = logging.getLogger(__name__)

SHORT_LIFE = 1.0
"""Seconds; a connection that is lost sooner says that the broker may not be well yet."""


class Connection:
    """Keeps one connection to the broker, and opens it again whenever and however it is lost.

    What was right at the start (credentials, certificates, a virtual host) may be wrong for a while
    in between and become right again; nobody would notice a connection that was given up. Only one
    that is borrowed from the application cannot be opened again.

    What was built on a lost connection is gone; whoever holds channels watches their `closed`
    and asks `channel()` for new ones.
    """

    def __init__(
        self,
        url: BrokerUrl,
        *,
        name: str,
        driver: Driver,
        outages: OutageLog | None = None,
        declares: bool = True,
    ) -> None:
        """Connect to nothing yet.

        :param outages: shared with other connections, whose losses are one outage with its own
        :param declares: False lets its channels declare and bind nothing, but look
        """
        self._declares = declares
        self._own: set[str] = set()
        """The queues that are declared all the same, as nobody else can."""
        self.name = name
        self._outages = OutageLog() if outages is None else outages
        self._url = url
        self._driver = driver
        self._current: DriverConnection | None = None
        self._up = asyncio.Event()
        self._hosts = Hosts(url.hosts)
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._failure: BaseException | None = None
        self._problem: str | None = None
        self._ended = asyncio.Event()
        self._generation = 0
        self._blocked: str | None = None
        self._blocked_since = 0.0
        self._blocked_for = 0.0
        self._unblocked = asyncio.Event()
        self._unblocked.set()
        self._blocking = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """True while there is an open connection."""
        return self._current is not None and not self._current.closed.done()

    @property
    def generation(self) -> int:
        """How many connections were opened; what was declared on an older one may be gone."""
        return self._generation

    @property
    def server(self) -> str:
        """The broker's product and version; 'no broker' before the first connection."""
        return self._current.server if self._current else "no broker"

    @property
    def blocked(self) -> str | None:
        """Why the broker blocks publishers on this connection (an alarm), or None."""
        return self._blocked

    @property
    def blocked_seconds(self) -> float:
        """For how long, in all, the broker has blocked publishers on it."""
        now = 0.0 if self._blocked is None else monotonic() - self._blocked_since
        return self._blocked_for + now

    @property
    def problem(self) -> str | None:
        """Why the latest attempt to connect failed; None once one has succeeded."""
        return self._problem

    async def open(self, deadline: float | None = None) -> None:
        """Connect, trying again until `deadline` seconds have passed; None is without end.

        :raises AuthenticationError: the credentials were refused (not tried again)
        :raises VirtualHostError: the virtual host was refused (not tried again)
        :raises ConnectError: the deadline passed
        """
        self._use(await self._connect(deadline, first=True))
        self._keeper = asyncio.create_task(self._keep(), name=f"mqkit connection {self.name}")
        self._keeper.add_done_callback(self._on_keeper_done)

    async def channel(self) -> DriverChannel:
        """Open a channel, as soon as there is a connection.

        :raises ConnectError: this connection was closed
        :raises ChannelClosedError: the broker refused to open one
        """
        while True:
            connection = await self._connected()
            try:
                channel = await connection.channel()
                return channel if self._declares else checking(channel, self._own)
            except ChannelClosedError:
                if not connection.closed.done():
                    raise

    async def given_up(self) -> None:
        """Wait until the connection is lost and cannot be opened again.

        :raises ConnectError: it is, and tells why
        """
        await self._ended.wait()
        raise self._given_up()

    async def unblocked(self) -> None:
        """Wait until the broker does not block publishers."""
        await self._unblocked.wait()

    async def blocking(self) -> None:
        """Wait until the broker blocks publishers."""
        await self._blocking.wait()

    async def close(self) -> None:
        """Close for good; waiting callers of `channel()` get `ConnectError`."""
        self._closing = True
        self._up.set()
        try:
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.wait([self._keeper])  # `_on_keeper_done` tells of its failure
            if self._current is not None:
                await self._current.close()
        finally:
            # Who waits for the end of an alarm finds it closed instead.
            self._blocked_for, self._blocked = self.blocked_seconds, None
            self._unblocked.set()

    async def _connected(self) -> DriverConnection:
        while not self._closing:
            if self._current is not None and not self._current.closed.done():
                return self._current
            self._up.clear()
            await self._up.wait()
        if self._failure is not None:
            raise self._given_up()
        raise ConnectError(f"connection {self.name}: it was closed")

    def _given_up(self) -> ConnectError:
        error = ConnectError(f"connection {self.name} is given up: {self._failure}")
        error.__cause__ = self._failure
        return error

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        short_lives = 0
        while self._current is not None:
            born = loop.time()
            why = await asyncio.shield(self._current.closed)
            short_lives = short_lives + 1 if loop.time() - born < SHORT_LIFE else 0
            lost, then = "connection lost", "connecting again"
            self._outages.down(self.name, lost, shown(why.text), then=then)
            self._set_blocked(None)
            if wait := wait_after_losses(short_lives):
                await asyncio.sleep(wait)
            self._use(await self._connect(None, first=False))

    def _on_keeper_done(self, keeper: asyncio.Task[None]) -> None:
        if keeper.cancelled() or keeper.exception() is None:
            return
        self._failure = keeper.exception()
        self._ended.set()
        text = "%s: the connection is lost and cannot be opened again"
        log_problem(logger, logging.CRITICAL, text, self.name, error=self._failure)
        self._closing = True
        self._up.set()

    def _use(self, connection: DriverConnection) -> None:
        self._current = connection
        self._problem = None
        self._generation += 1
        self._up.set()

    async def _connect(self, deadline: float | None, *, first: bool) -> DriverConnection:
        drawn = wait_between_rounds()

        def wait(state: RetryCallState) -> float:
            if deadline is None:
                return drawn(state)
            # Not past the deadline: there is a last attempt at it.
            return min(drawn(state), max(deadline - (state.seconds_since_start or 0.0), 0.0))

        attempts = AsyncRetrying(
            stop=stop_never if deadline is None else stop_after_delay(deadline),
            wait=wait,
            retry=retry_if_exception(lambda error: worth_trying_again(error, first=first)),
            before_sleep=tell_failed_round(self._outages, self.name),
            reraise=True,
        )
        return await attempts(self._try_each_host, first=first)

    async def _try_each_host(self, *, first: bool) -> DriverConnection:
        problems: list[str] = []
        for attempt in self._hosts.attempts(problems, first=first):
            with attempt as host:
                connection = await self._connect_to(host)
                if not self._outages.up(self.name, f"connected to {connection.server} at {host}"):
                    logger.info("%s: connected to %s at %s", self.name, connection.server, host)
                return connection
        error = self._hosts.failure(problems)
        self._problem = str(error)
        raise error

    async def _connect_to(self, host: Host) -> DriverConnection:
        try:
            return await self._driver.connect(
                self._url, host, name=self.name, on_blocked=self._set_blocked
            )
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Of somebody's own making: it would end whoever keeps this connection, unnoticed.
            raise ConnectError(f"the attempt to connect to {host} was cancelled") from error

    def _set_blocked(self, reason: str | None) -> None:
        if reason == self._blocked or self._closing:
            return
        self._blocked_for = self.blocked_seconds
        self._blocked_since = monotonic()
        self._blocked = reason
        if reason is None:
            self._blocking.clear()
            self._unblocked.set()
            logger.info("%s: the broker takes messages again", self.name)
            return
        self._unblocked.clear()
        self._blocking.set()
        logger.warning("%s: the broker blocks publishers: %s", self.name, shown(reason))
