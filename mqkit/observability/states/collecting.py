"""Collects what the processes of all services say of themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from mqkit.broker.connection import Connection
from mqkit.broker.declare import CONNECTION_FORCED
from mqkit.broker.states import READERS, STATES, states_channel
from mqkit.clock import Clock, monotonic, utc_now
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.observability.states.state import MAX_STATE, State, StateError, decode, head_of
from mqkit.system.machine import MACHINE, Machine

logger = logging.getLogger(__name__)

SILENT_AFTER = 3
"""Intervals without a word after which a process is silent."""

FORGET_AFTER = 300.0
"""Seconds after its last word in which a process is forgotten."""

MAX_PROCESSES = 5_000
"""Processes that are known at a time; of more, those are forgotten that spoke longest ago."""

MAX_UNREAD = 16 * 1024 * 1024
"""Bytes of states that wait unread for the next look; above it all are read at once."""

AGAIN = 5.0
"""Seconds until the queue is declared again where the broker has refused or taken it."""

QUEUE_ARGUMENTS = {
    "x-message-ttl": 10_000,
    "x-max-length": 20_000,
    "x-max-length-bytes": 32 * 1024 * 1024,
    "x-overflow": "drop-head",
    "x-expires": 60_000,
}
"""Of the queue that states come to: what is not read soon is worth nothing."""


@dataclass(slots=True)
class Heard:
    """What a process has said last, and when that came."""

    state: State
    at: float
    """On this process's monotonic clock."""
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class _Unread:
    """A state that has come, and was not read yet."""

    body: bytes
    up: float
    at: float
    seen_at: datetime


class Collector:
    """Takes the states of all processes that publish them, until `run` is cancelled.

    Its queue is its connection's own, and goes with it. A state is read when somebody wants to know
    it, and of those that a process has sent until then the last one alone: to read the states of
    hundreds of handlers costs more than everything else here. What others put there is checked, and
    what is no state is ignored, with one log line for each kind of it.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        on_state: Callable[[State], object] = lambda _: None,
        clock: Clock = utc_now,
        machine: Machine = MACHINE,
    ) -> None:
        """Read nothing yet.

        :param on_state: called with each state that is read
        """
        self._connection = connection
        self._on_state = on_state
        self._clock = clock
        self._machine = machine
        self._heard: dict[str, Heard] = {}
        self._unread: dict[str, _Unread] = {}
        self._unread_bytes = 0
        self._told: set[str] = set()
        self._listens_since = 0.0
        self._deaf_since: float | None = 0.0
        self.ignored = 0
        """Messages that were no states."""
        self.problem = ""
        """Why nothing is read now; '' where something is."""

    async def run(self) -> None:
        """Read until cancelled; where the connection or the queue is lost, on another one."""
        while True:
            wait = AGAIN
            try:
                await self._consume()
                wait = 0.0
            except ChannelClosedError as error:
                if error.code in (0, CONNECTION_FORCED):
                    wait = 0.0  # for a channel is waited anyway, until the connection is back
                self._log(logging.WARNING if wait else logging.DEBUG, str(error))
            except TopologyError as error:
                self._log(logging.WARNING, str(error))
            await asyncio.sleep(wait)

    def is_silent(self, heard: Heard) -> bool:
        """Tell whether a process has said nothing for longer than it had announced.

        Time in which nothing could be read does not count.
        """
        until = monotonic() if self._deaf_since is None else self._deaf_since
        return until - max(heard.at, self._listens_since) > SILENT_AFTER * heard.state.every

    def heard(self) -> list[Heard]:
        """Return what each process has said last, the ones that have ended among them.

        What was said over five minutes ago is forgotten.
        """
        self._read_all()
        now = monotonic()
        gone = [id_ for id_, each in self._heard.items() if now - each.at > FORGET_AFTER]
        for each in gone:
            del self._heard[each]
        return list(self._heard.values())

    def take(self, body: bytes) -> None:
        """Take a message's body for what a process says, or ignore it."""
        came = _Unread(body, 0.0, monotonic(), self._clock())
        head = head_of(body) if len(body) <= MAX_STATE else None
        if head is None:
            self._read(came)
            return
        id_, up = head
        waiting = self._unread.pop(id_, None)  # to the end: the ones that spoke long ago first
        if waiting is not None:
            self._unread_bytes -= len(waiting.body)
            if up < waiting.up:  # it was overtaken
                body, up = waiting.body, waiting.up
        self._unread[id_] = _Unread(body, up, came.at, came.seen_at)
        self._unread_bytes += len(body)
        if self._unread_bytes > MAX_UNREAD or len(self._unread) > MAX_PROCESSES:
            self._read_all()

    def _read_all(self) -> None:
        unread, self._unread, self._unread_bytes = self._unread, {}, 0
        for each in unread.values():
            self._read(each)

    def _read(self, came: _Unread) -> None:
        try:
            state = decode(came.body)
        except StateError as error:
            self.ignored += 1
            if error.kind not in self._told:
                self._told.add(error.kind)
                logger.warning("a message at exchange %s is ignored: %s", STATES, error)
            return
        known = self._heard.pop(state.id, None)
        if known is not None and state.up < known.state.up:
            state = known.state  # an old word that was overtaken, or somebody else's nonsense
        self._heard[state.id] = Heard(state, came.at, came.seen_at)
        while len(self._heard) > MAX_PROCESSES:
            del self._heard[next(iter(self._heard))]
        self._on_state(state)

    async def _consume(self) -> None:
        channel = await states_channel(self._connection.channel)
        try:
            cancelled = asyncio.Event()
            await self._bind(channel, cancelled)
            self.problem = ""
            self._listens_since, self._deaf_since = monotonic(), None
            waits = (asyncio.ensure_future(cancelled.wait()), channel.closed)
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waits[0].cancel()
            if channel.closed.done():
                raise channel.closed.result().error()
        finally:
            if self._deaf_since is None:
                self._deaf_since = monotonic()
            if channel.is_open:
                await channel.close()

    async def _bind(self, channel: DriverChannel, cancelled: asyncio.Event) -> None:
        queue = READERS + self._machine.random_bytes(8).hex()
        await channel.declare_queue(
            queue, durable=False, exclusive=True, auto_delete=True, arguments=QUEUE_ARGUMENTS
        )
        await channel.bind_queue(queue, STATES, "")

        def on_delivery(incoming: Incoming) -> None:
            self.take(incoming.body)

        await channel.consume(queue, on_delivery, cancelled.set, no_ack=True)

    def _log(self, level: int, why: str) -> None:
        if self.problem != why:
            logger.log(level, "no states of processes can be read: %s", why)
        self.problem = why
