"""How services know that a queue is being moved, so that they leave its bindings alone.

While `mqkit topology apply` declares a queue anew, its messages are held aside. A service binds its
queues at its start and every minute; bound meanwhile, a queue would get what is held as well. So
there is a message in the queue `MOVES` for each move, and services look at how many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from mqkit.checks.checked import MAX_SHORT
from mqkit.drivers.base import OpenChannel
from mqkit.errors import ChannelClosedError

STEM = "mqkit.delay.v1.move."
"""Begins the names of what a move puts on the broker. Services may write below `mqkit.delay.v1.`
already, and what comes from there is believed to be mqkit's own (`mqkit.consuming.headers`)."""

MOVES = "mqkit.delay.v1.moves"
"""A classic queue: of a quorum queue whose leader is slow RabbitMQ says that it is empty."""

LOCK = f"{STEM}lock"
"""An exclusive queue of whoever moves, so that nobody else does at the same time."""

_NOT_FOUND, _ACCESS_REFUSED = 404, 403


@dataclass(frozen=True, slots=True)
class MoveNames:
    """The queues and exchanges of one queue's move."""

    held: str
    """The queue that keeps what is published meanwhile, and the exchange before it."""
    moved: str
    """The queue that keeps what was in the queue, and the exchange before it."""
    detour: str
    """The exchange by which messages reach the queue, or else what is held."""
    back: str
    """The exchange by which what was kept goes back to the queue."""
    emptied: str
    """An exchange that is there once all is emptied and declared anew."""


def move_names(queue: str) -> MoveNames:
    """Return the names for the move of a queue."""
    stem = STEM + queue
    if len(stem.encode()) > MAX_SHORT - len(".emptied"):
        stem = STEM + hashlib.sha256(queue.encode()).hexdigest()
    return MoveNames(*(f"{stem}.{each}" for each in ("held", "moved", "detour", "back", "emptied")))


async def held_queues(open_channel: OpenChannel, queues: Iterable[str]) -> frozenset[str]:
    """Return those of some queues whose messages are held, as they are being moved.

    :raises ChannelClosedError: the connection was lost meanwhile
    """
    if not await _messages(open_channel, MOVES):
        return frozenset()
    return frozenset(
        [
            each
            for each in dict.fromkeys(queues)
            if await _messages(open_channel, move_names(each).held) is not None
        ]
    )


async def _messages(open_channel: OpenChannel, queue: str) -> int | None:
    channel = await open_channel()
    try:
        state = await channel.declare_queue(queue, passive=True)
    except ChannelClosedError as error:
        if error.code not in (_NOT_FOUND, _ACCESS_REFUSED):
            raise
        return None
    await channel.close()
    return state.messages
