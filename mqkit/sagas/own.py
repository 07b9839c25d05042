"""The messages that a saga sends to itself: a timeout that comes, a step to undo."""

from __future__ import annotations

from pydantic import BaseModel


class TimeoutDue(BaseModel):
    """Says that a timeout is due, if the saga still waits for the one with this token."""

    saga: str
    id: str
    timeout: str
    token: str


class UndoStep(BaseModel):
    """Asks to undo a step, if it is the one with this token that is being undone."""

    saga: str
    id: str
    step: str
    token: str


TIMEOUT_TYPE = "mqkit.saga.timeout"
UNDO_TYPE = "mqkit.saga.undo"
"""The messages' `type`."""
