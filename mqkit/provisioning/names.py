"""The names of what a move puts on the broker beside a queue, for as long as it lasts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mqkit.broker.moving import HOLD
from mqkit.checks.checked import MAX_SHORT


@dataclass(frozen=True, slots=True)
class MoveNames:
    """The queues and exchanges of one queue's move."""

    held: str
    """The queue that keeps what is published meanwhile, and the exchange before it."""
    moved: str
    """The queue that keeps what was in the queue."""
    detour: str
    """The exchange by which messages reach the queue, or else what is held."""


def move_names(queue: str) -> MoveNames:
    """Return the names for the move of a queue."""
    stem = HOLD + queue
    if len(stem.encode()) > MAX_SHORT - len(".detour"):
        stem = HOLD + hashlib.sha256(queue.encode()).hexdigest()
    return MoveNames(held=f"{stem}.held", moved=f"{stem}.moved", detour=f"{stem}.detour")
