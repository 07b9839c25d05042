"""What the messages of a schedule have in them."""

from __future__ import annotations

from pydantic import BaseModel


class Work(BaseModel):
    """A message: its name, and what its handler is to do."""

    name: str
    script: str
    key: str | int | float = ""
    """1 and 1.0 are one key."""
    duration: float = 0.0


class FailedOnPurposeError(Exception):
    """The message asked for it."""


class DependencyDownError(Exception):
    """What the handler depends on is down."""


class AbortedOnPurpose(BaseException):
    """The message asked for what is no `Exception`."""
