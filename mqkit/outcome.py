"""Outcomes of a delivery, one for each, and the exceptions by which a handler chooses one.

Outcomes are plain values: `dispatch` decides on one, `settle` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.errors import OptionError


class DeathReason(StrEnum):
    """Why mqkit dead-lettered a message; the value of the `mqkit-reason` header."""

    UNDECODABLE = "undecodable"
    REJECTED = "rejected"
    NOT_RETRYABLE = "not-retryable"
    ATTEMPTS_EXHAUSTED = "attempts-exhausted"
    POLICY_FAILED = "policy-failed"
    UNIDENTIFIED = "no-message-id"
    """It has none, or one that the store cannot keep."""
    ID_REUSED = "id-reused"
    """Another message of this id, with another body, was handled before."""
    UNORDERED = "no-order-key"
    HELD_TOO_LONG = "held-too-long"
    EXPIRED = "expired"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class Ack:
    """The handler is done: acknowledge. `result` is what it returned.

    `reply` is that as a body and its content type, where the message asks for a reply.
    """

    result: Any = None
    reply: tuple[bytes, str] | None = None


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Publish a copy that comes back to the same queue after `delay` seconds, then acknowledge.

    A handler that keeps an order has no copy: its message is held in the process for that time.
    `elapsed` is the seconds from the message's first failure to the next attempt. An attempt that
    is not `counted` ended by no fault of the message, and has the same number again.
    """

    delay: float
    error: BaseException
    elapsed: float = 0.0
    counted: bool = True


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Publish a copy to the dead letter queue, then acknowledge."""

    reason: DeathReason
    error: BaseException


@dataclass(frozen=True, slots=True)
class Forward:
    """Publish a copy to `queue`, the partition of its key, then acknowledge."""

    queue: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """Give the message back to its queue unsettled: at a stop, or where its run was given up."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The channel of the delivery is gone; the broker has requeued it and nothing may be sent."""


Outcome = Ack | RetryAfter | DeadLetter | Forward | Requeue | Lost


class Reject(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by a handler: dead-letter this message at once, without a retry."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RetryLater(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by a handler: try again in `seconds`, whatever the policy's wait says.

    The policy's `stop` still counts the attempt, so a message cannot circle for ever.

    :param seconds: a number or a timedelta
    :raises OptionError: it is negative, no number, or longer than the delay ladder can hold; a
        ValueError as well
    """

    def __init__(self, seconds: Seconds, reason: str = "") -> None:
        number = checked.as_seconds(seconds)
        if number is None or not 0 <= number <= MAX_DELAY:
            raise OptionError(
                f"RetryLater takes 0 to {MAX_DELAY:.0f} seconds, as a number or a timedelta, "
                f"not {checked.shown(seconds)}"
            )
        super().__init__(reason or f"retry in {number:g} s")
        self.seconds = number


def instruction(error: BaseException) -> BaseException:
    """Find the `Reject` or `RetryLater` that an error is or holds as a group; else return it.

    A `TaskGroup` raises what its tasks raised as a group. One `Reject` in it is enough, and of
    several `RetryLater` the longest counts.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    later: RetryLater | None = None
    left: list[BaseException] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Reject):
            return each
        if isinstance(each, RetryLater) and (later is None or each.seconds > later.seconds):
            later = each
        if isinstance(each, BaseExceptionGroup):
            left.extend(reversed(each.exceptions))
    return later or error


def is_instruction(error: BaseException) -> bool:
    """Whether an error is a `Reject` or a `RetryLater`, whose text is for whoever reads the log."""
    return isinstance(error, Reject | RetryLater)


DELAY_TICK = 0.1
"""The shortest delay that the broker can hold, and the step of all others, in seconds."""

DELAY_LEVELS = 28
"""How many queues the delay ladder may have; level n holds a message for 2^n ticks."""

MAX_DELAY: float = (2**DELAY_LEVELS - 1) * DELAY_TICK
"""The longest delay, in seconds: 310 days."""
