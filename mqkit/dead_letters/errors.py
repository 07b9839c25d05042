"""Errors of who looks after dead letters: what cannot be read, found, locked or moved."""

from __future__ import annotations

from mqkit.errors import MqkitError


class DeadLetterError(MqkitError):
    """The root of what goes wrong while dead letters are looked at or moved."""


class NotADeadLetterQueueError(DeadLetterError):
    """There is no such queue, or it is not declared as a dead letter queue of mqkit's."""


class DeadLettersInUseError(DeadLetterError):
    """A handler consumes the dead letter queue, or somebody else reads it at the moment."""


class DeadLetterNotFoundError(DeadLetterError):
    """No dead letter has this id, or several have it and one was asked for."""


class DeadLetterMoveError(DeadLetterError):
    """A dead letter could not be moved; it is where it was, and so are those after it."""
