"""Lets the broker hold a message until it is due, and publish it to its exchange then.

The ladder of retries (`delays`) ends at one queue, which the routing key names. Here the routing
key is the message's own from the beginning, as its consumer is to see it, and has no room for a
delay. So the bits of the delay stand in headers, and the exchanges of this ladder route by those:
level n holds what has True in the header `mqkit-hold-<n>`, and sends what has False there straight
on to the level below.

What leaves the ladder goes, by the header `mqkit-landing`, to a landing queue, which holds nothing
and dead-letters to the exchange that the message is for, under its own routing key. So it arrives
as if it was published then, with the broker's `x-death` besides. Where that exchange is missing, or
has no queue for the key, the message stays in the landing queue, and the broker tries again every
3 minutes (`dead_letter_worker_publisher_confirm_timeout`); at 32 such messages it waits for them
before it goes on. So the keys of an exchange share several landing queues, by their hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from mqkit.broker.connection import Connection
from mqkit.broker.delays import (
    PREFIX,
    UNDELIVERABLE,
    declare_or_find,
    declare_undeliverable,
    holding,
    look_for,
    ticks,
)
from mqkit.checks.checked import MAX_SHORT
from mqkit.drivers.base import DriverChannel
from mqkit.message import RESERVED_PREFIX, HeaderValue, Message
from mqkit.outcome import DELAY_TICK, MAX_DELAY

DUE = f"{PREFIX}.due"
"""The exchange at the ladder's end, which routes to the landing queues."""

LANDING = f"{RESERVED_PREFIX}landing"
"""The header that names a message's landing queue."""

HOLD = f"{RESERVED_PREFIX}hold-"
"""Begins the names of the headers that say whether a level holds the message."""

LANDINGS = 16
"""Landing queues of one exchange, at most: each is declared when a key first needs it."""

OF_DEATHS = ("x-death", "x-first-death-", "x-last-death-")
"""How headers begin that tell of stays in other queues. An application may have copied them to what
it publishes, and a broker before 4.0.1 drops what seems to go in a circle."""


def level_name(level: int) -> str:
    """Return the name of a level's queue, which is its exchange's, too."""
    return f"{PREFIX}.later.{level:02d}"


def landing_name(exchange: str, routing_key: str) -> str:
    """Return the name of the landing queue for a key of an exchange."""
    shard = zlib.crc32(routing_key.encode(errors="surrogateescape")) % LANDINGS
    name = f"{PREFIX}.to.{shard:02d}" + (f".{exchange}" if exchange else "")
    whole = name.encode()
    if len(whole) <= MAX_SHORT:
        return name
    digest = hashlib.sha256(whole).hexdigest()
    return f"{whole[: MAX_SHORT - len(digest) - 1].decode(errors='ignore')}.{digest}"


def seconds_left(due: datetime, now: datetime) -> float:
    """Return the seconds until a message is due: 0 if it is, and no more than can be held."""
    return min(max((due - now).total_seconds(), 0.0), MAX_DELAY)


def entry(message: Message, delay: float) -> Message:
    """Make the message that enters the ladder, and comes out of it after `delay` seconds."""
    count = ticks(delay)
    levels = count.bit_length()
    headers: dict[str, HeaderValue] = {
        name: value
        for name, value in message.properties.headers.items()
        if not name.startswith(OF_DEATHS)
    }
    headers[LANDING] = landing_name(message.exchange, message.routing_key)
    headers |= {_held_at(level): bool(count >> level & 1) for level in range(levels)}
    exchange = level_name(levels - 1) if levels else DUE
    # As if it were published then: until then it waits by its own wish, and in nobody's queue.
    timestamp = message.due or message.properties.timestamp
    properties = replace(message.properties, headers=headers, timestamp=timestamp)
    return replace(message, exchange=exchange, properties=properties, mandatory=True, due=None)


def _held_at(level: int) -> str:
    return f"{HOLD}{level:02d}"


class LaterLadder:
    """Declares the ladder's queues and exchanges when a message first needs them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self._generation = -1
        self._levels = 0
        self._landings: set[str] = set()

    def is_ready(self, message: Message, delay: float) -> bool:
        """Tell whether all is declared that a message takes."""
        return (
            self._generation == self._connection.generation
            and ticks(delay).bit_length() <= self._levels
            and landing_name(message.exchange, message.routing_key) in self._landings
        )

    async def declare(self, message: Message, delay: float) -> None:
        """Declare what a message takes that is held for `delay` seconds.

        :raises TopologyError: this user may not declare what it takes, and it is not there
        :raises ChannelClosedError: the broker refused a declaration, or the connection was lost
        """
        async with self._lock:
            if not self.is_ready(message, delay):
                await self._declare(message, ticks(delay).bit_length())

    def forget(self) -> None:
        """Declare everything again at the next message, for some of the ladder was deleted."""
        self._generation = -1

    async def _declare(self, message: Message, levels: int) -> None:
        generation = self._connection.generation
        if self._generation != generation:
            self._levels = 0
            self._landings.clear()
        channel = await self._end(await self._connection.channel())
        for level in range(self._levels, levels):
            channel = await self._level(channel, level)
        landing = landing_name(message.exchange, message.routing_key)
        if landing not in self._landings:
            channel = await self._landing(channel, landing, message.exchange)
        await channel.close()
        self._levels = max(self._levels, levels)
        self._landings.add(landing)
        self._generation = generation

    async def _end(self, channel: DriverChannel) -> DriverChannel:
        return await self._declare_or_find(channel, declare_end, DUE)

    async def _level(self, channel: DriverChannel, level: int) -> DriverChannel:
        def declare(channel: DriverChannel) -> Awaitable[None]:
            return declare_level(channel, level)

        return await self._declare_or_find(channel, declare, level_name(level))

    async def _landing(self, channel: DriverChannel, name: str, exchange: str) -> DriverChannel:
        return await declare_or_find(
            channel,
            self._connection.channel,
            lambda channel: declare_landing(channel, name, exchange),
            lambda channel: channel.declare_queue(name, passive=True),
            f"what is published later to exchange {exchange!r} needs queue {name}, {_MISSING}, and "
            "to write to that exchange",
        )

    async def _declare_or_find(
        self,
        channel: DriverChannel,
        declare: Callable[[DriverChannel], Awaitable[None]],
        exchange: str,
    ) -> DriverChannel:
        return await declare_or_find(
            channel,
            self._connection.channel,
            declare,
            lambda channel: look_for(channel, exchange),
            f"to publish later needs exchange {exchange}, {_MISSING}",
        )


async def declare_end(channel: DriverChannel) -> None:
    """Declare the exchange at the ladder's end, and what is behind it."""
    await declare_undeliverable(channel)
    await channel.declare_exchange(DUE, "headers", arguments={"alternate-exchange": UNDELIVERABLE})


async def declare_level(channel: DriverChannel, level: int) -> None:
    """Declare a level: its exchange, its queue, and their bindings; the one below must be there."""
    name, below = level_name(level), level_name(level - 1) if level else DUE
    await channel.declare_exchange(name, "headers")
    await channel.declare_queue(name, arguments=holding(2**level * DELAY_TICK, below))
    await channel.bind_queue(name, name, "", {"x-match": "all", _held_at(level): True})
    # Not by an alternate exchange: without its queue, a level would pass on at once what it holds.
    await channel.bind_exchange(below, name, "", {"x-match": "all", _held_at(level): False})


async def declare_landing(channel: DriverChannel, name: str, exchange: str) -> None:
    """Declare the landing queue of this name, from which messages come to an exchange."""
    await channel.declare_queue(name, arguments=holding(0, exchange))
    await channel.bind_queue(name, DUE, "", {"x-match": "all", LANDING: name})


_MISSING = (
    "which does not exist, and this user may not declare it: that takes permission to configure, "
    f"write and read what begins with {PREFIX}."
)
