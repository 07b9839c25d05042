"""Lets the broker hold messages for a delay, without a plugin, in a ladder of TTL queues.

Level n is a queue that holds a message for 2^n ticks of 100 ms and dead-letters it to the level
below. The delay in ticks, in binary, is the routing key: at each level a topic exchange sends a
1 into the level's queue and a 0 straight on. What leaves the ladder goes to the one queue whose
name ends the routing key. So any delay is possible, a short one never waits behind a long one,
and nothing is held in a worker. (The model is NServiceBus's delay infrastructure,
https://docs.particular.net/transports/rabbitmq/delayed-delivery.)
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mqkit.broker.connection import Connection
from mqkit.broker.declare import ACCESS_REFUSED, NOT_FOUND
from mqkit.broker.moving import MOVES, held_queues
from mqkit.drivers.base import DriverChannel, OpenChannel
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.outcome import DELAY_LEVELS, DELAY_TICK, MAX_DELAY
from mqkit.topology import UNLIMITED_DELIVERIES

PREFIX = "mqkit.delay.v1"
"""Before all names of the ladder; its number changes if an argument ever does."""

DELIVER = f"{PREFIX}.deliver"

UNDELIVERABLE = f"{PREFIX}.undeliverable"
"""Keeps what leaves the ladder for a queue that is gone, until somebody looks.

At-least-once dead-lettering holds what it cannot route, 32 messages at a time per queue
(`dead_letter_worker_consumer_prefetch`); those of one missing queue would block all others.
"""


def level_name(level: int) -> str:
    """Return the name of a level's queue, which is its exchange's, too."""
    return f"{PREFIX}.{level:02d}"


def ticks(delay: float) -> int:
    """Convert a delay to ticks, rounded up: never early.

    :raises ValueError: it is negative or longer than the ladder can hold
    """
    if not 0 <= delay <= MAX_DELAY:
        raise ValueError(f"a delay is 0 to {MAX_DELAY:.0f} seconds, not {delay!r}")
    return math.ceil(round(delay / DELAY_TICK, 6))


def entry(delay: float, queue: str) -> tuple[str, str]:
    """Return the exchange and routing key that bring a message to `queue` after `delay` seconds.

    A message without a delay takes the ladder's last exchange too, by which its consumer knows
    that it is a copy of mqkit's (`mqkit.consuming.headers`).
    """
    count = ticks(delay)
    levels = count.bit_length()
    exchange = level_name(levels - 1) if levels else DELIVER
    return exchange, f"{'.'.join(f'{count:0{DELAY_LEVELS}b}')}.{queue}"


def _bit_pattern(level: int, bit: str) -> str:
    return ".".join(["*"] * (DELAY_LEVELS - 1 - level) + [bit, "#"])


def queue_pattern(queue: str) -> str:
    """Return the pattern by which the ladder's last exchange delivers to a queue."""
    # Not '#.queue': that would also match a longer name that ends alike.
    return ".".join(["*"] * DELAY_LEVELS + [queue])


class DelayLadder:
    """Declares the ladder's queues and exchanges when a delay first needs them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self._generation = -1
        self._levels = 0

    async def route(self, delay: float, queue: str) -> tuple[str, str]:
        """Declare what a delay needs, and return the exchange and routing key to publish to.

        `queue` gets the message after `delay` seconds, if it is bound to the ladder.

        :raises TopologyError: this user may not declare what it takes, and it is not there
        :raises ChannelClosedError: the broker refused a declaration, or the connection was lost
        """
        levels = ticks(delay).bit_length()
        if not self._is_ready(levels):
            async with self._lock:
                await self._declare(levels)
        return entry(delay, queue)

    def forget(self) -> None:
        """Declare everything again at the next delay, for some of the ladder was deleted."""
        self._generation = -1

    def _is_ready(self, levels: int) -> bool:
        return self._generation == self._connection.generation and levels <= self._levels

    async def _declare(self, levels: int) -> None:
        generation = self._connection.generation
        if self._generation != generation:
            self._levels = 0
        channel = await _exit(self._connection.channel)
        for level in range(self._levels, levels):
            channel = await self._level(channel, level)
        await channel.close()
        self._levels = max(self._levels, levels)
        self._generation = generation

    async def _level(self, channel: DriverChannel, level: int) -> DriverChannel:
        """Declare a level, or find it where this user may not; return the channel to go on with."""
        return await declare_or_find(
            channel,
            self._connection.channel,
            lambda channel: declare_level(channel, level),
            lambda channel: look_for(channel, level_name(level)),
            f"a delay needs {level_name(level)}, which does not exist, and this user may not "
            f"declare it: give permission to configure what begins with {PREFIX}., or let a "
            "service that has it ask for this delay once",
        )


async def bound_channel(open_channel: OpenChannel, queues: Iterable[str]) -> DriverChannel:
    """Open a channel, and let the ladder deliver to queues that were declared just now.

    A queue that was deleted and declared again has lost its binding, and what waits for it in
    the ladder arrives only with a new one. An exclusive queue can be bound only by the connection
    that consumes it. One that is being moved is not bound.

    :raises TopologyError: this user may not do it; the message names the permission
    :raises ChannelClosedError: the broker refused a declaration, or the connection was lost
    """
    names = tuple(queues)
    channel = await _exit(open_channel)
    held = await held_queues(open_channel, names) if names else ()
    for queue in names:
        if queue in held:
            continue
        try:
            await bind(channel, queue)
        except ChannelClosedError as error:
            if error.code != ACCESS_REFUSED:
                raise
            raise TopologyError(
                f"queue {queue}: this user may not let retries return to it: that takes permission "
                f"to write to the queue, and to read from {DELIVER} ({error.text})"
            ) from error
    return channel


async def check_permissions(open_channel: OpenChannel, queues: Iterable[str]) -> None:
    """Check, before anything is consumed, that this user may let retries return to queues.

    :raises TopologyError: this user may not; the message names the permission
    :raises ChannelClosedError: the connection was lost meanwhile
    """
    try:
        channel = await bound_channel(open_channel, queues)
    except ChannelClosedError as error:
        if not error.code:
            raise
        return  # a queue is gone again, say: who consumes it declares it again
    await channel.close()


async def bind(channel: DriverChannel, queue: str) -> None:
    """Bind a queue to the ladder's last exchange, which must exist.

    :raises ChannelClosedError: it is not, the broker refused, or the connection was lost
    """
    await channel.bind_queue(queue, DELIVER, queue_pattern(queue))


async def _exit(open_channel: OpenChannel) -> DriverChannel:
    """Open a channel, and declare the ladder's last exchange, or find it there."""
    return await declare_or_find(
        await open_channel(),
        open_channel,
        declare_exit,
        lambda channel: look_for(channel, DELIVER),
        f"exchange {DELIVER}, by which retries return to their queues, does not exist, and this "
        "user may not declare it: that takes permission to configure, write and read what begins "
        f"with {PREFIX}.",
    )


async def declare_or_find(
    channel: DriverChannel,
    open_channel: OpenChannel,
    declare: Callable[[DriverChannel], Awaitable[Any]],
    find: Callable[[DriverChannel], Awaitable[Any]],
    missing: str,
) -> DriverChannel:
    """Declare something, or find it there where this user may not declare it.

    :param find: is refused with 404 where it is not there
    :param missing: the error's text if it is not there
    :returns: the channel to go on with, for a refusal closes one
    :raises TopologyError: it is not there
    :raises ChannelClosedError: the broker refused it otherwise, or the connection was lost
    """
    try:
        await declare(channel)
    except ChannelClosedError as refused:
        if refused.code != ACCESS_REFUSED:
            raise
        channel = await open_channel()
        try:
            await find(channel)
        except ChannelClosedError as error:
            if error.code != NOT_FOUND:
                raise
            raise TopologyError(f"{missing} ({refused.text})") from refused
    return channel


async def look_for(channel: DriverChannel, exchange: str) -> None:
    """Ask for an exchange, of whatever type; the channel closes (404) where there is none."""
    await channel.declare_exchange(exchange, "topic", passive=True)


async def declare_undeliverable(channel: DriverChannel) -> None:
    """Declare the exchange and the queue for what leaves a ladder and has nowhere to go."""
    await channel.declare_exchange(UNDELIVERABLE, "fanout")
    await channel.declare_queue(
        UNDELIVERABLE,
        arguments={"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED_DELIVERIES},
    )
    await channel.bind_queue(UNDELIVERABLE, UNDELIVERABLE, "")


async def declare_exit(channel: DriverChannel) -> None:
    """Declare the ladder's last exchange, and what is before and behind it."""
    await declare_undeliverable(channel)
    await channel.declare_queue(MOVES, arguments={"x-queue-type": "classic"})
    await channel.declare_exchange(
        DELIVER, "topic", arguments={"alternate-exchange": UNDELIVERABLE}
    )


def holding(seconds: float, exchange: str) -> dict[str, Any]:
    """Return the arguments of a queue that holds a message so long and passes it to an exchange.

    It stays until a queue behind the exchange has it.
    """
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": round(seconds * 1000),
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def declare_level(channel: DriverChannel, level: int) -> None:
    """Declare a level: its exchange, its queue, and their bindings; the one below must be there."""
    name, below = level_name(level), level_name(level - 1) if level else DELIVER
    await channel.declare_exchange(name, "topic")
    await channel.declare_queue(name, arguments=holding(2**level * DELAY_TICK, below))
    await channel.bind_queue(name, name, _bit_pattern(level, "1"))
    await channel.bind_exchange(below, name, _bit_pattern(level, "0"))
