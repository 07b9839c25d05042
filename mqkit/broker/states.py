"""Names the exchange by which processes say how they are, and declares it."""

from __future__ import annotations

from mqkit.broker.declare import NOT_FOUND
from mqkit.broker.delays import declare_or_find
from mqkit.drivers.base import DriverChannel, OpenChannel
from mqkit.errors import ChannelClosedError

STATES = "mqkit.states.v1"
"""A durable fanout; its number changes if what it is declared with ever does."""

READERS = f"{STATES}.reader."
"""Begins the names of the queues of who listens; each is its connection's own."""


async def declare_states(channel: DriverChannel) -> None:
    """Declare the exchange.

    :raises ChannelClosedError: the broker refused it, or the connection was lost
    """
    await channel.declare_exchange(STATES, "fanout")


async def has_states(open_channel: OpenChannel) -> bool:
    """Tell whether the exchange is there.

    :raises ChannelClosedError: the broker refused to say it, or the connection was lost
    """
    channel = await open_channel()
    try:
        await _find_states(channel)
    except ChannelClosedError as error:
        if error.code != NOT_FOUND:
            raise
        return False
    await channel.close()
    return True


async def _find_states(channel: DriverChannel) -> None:
    await channel.declare_exchange(STATES, "fanout", passive=True)


async def states_channel(open_channel: OpenChannel) -> DriverChannel:
    """Open a channel, and declare the exchange, or find it where this user may not.

    :raises TopologyError: it is not there, and this user may not declare it
    :raises ChannelClosedError: the broker refused it otherwise, or the connection was lost
    """
    return await declare_or_find(
        await open_channel(),
        open_channel,
        declare_states,
        _find_states,
        f"exchange {STATES} does not exist, and this user may not declare it: give permission to "
        f"configure {STATES}, or let `mqkit topology apply --ladder` put it there",
    )
