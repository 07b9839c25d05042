"""The values by which a saga says what it is in, and what a message does that finds it so."""

from __future__ import annotations

from enum import StrEnum

DAY = 86_400.0

DEFAULT_KEEP = 7 * DAY
"""Seconds for which the row of a completed saga is kept."""


class SagaStatus(StrEnum):
    """Where a saga stands."""

    NEW = "new"
    """There is none yet: its first message is being handled."""
    RUNNING = "running"
    COMPENSATING = "compensating"
    """It gives up: its steps that are done are being undone, one after the other."""
    COMPLETED = "completed"


class Missing(StrEnum):
    """What becomes of a message that continues a saga, where there is none."""

    IGNORE = "ignore"
    REJECT = "reject"
    """It is dead-lettered at once."""
    RETRY = "retry"
    """It fails with a `SagaNotFoundError`, and its retry policy says when it is tried again."""


class Found(StrEnum):
    """What becomes of a message that finds its saga in a status that it does not expect."""

    IGNORE = "ignore"
    REJECT = "reject"
    """It is dead-lettered at once."""
    RUN = "run"
    """Its method runs all the same, and sees `self.status`."""
