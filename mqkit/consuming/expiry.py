"""Time to live: a message that was published with an `expiration` is not handled after it. Pure.

The broker counts it for each stay in a queue anew, and not at all while a consumer holds the
message (https://www.rabbitmq.com/docs/ttl). Here it goes on: over retries, on the way to a
partition, and while a message waits for its turn. It begins when mqkit gets the message first, and
is measured on the monotonic clock of each process that has it, so that no clock that jumps ends it
early. What a retry stands in its queue before it is taken is not known, and does not count.
"""

from __future__ import annotations

from mqkit.errors import MessageExpiredError
from mqkit.message import Delivery
from mqkit.outcome import DeadLetter, DeathReason, Forward, RetryAfter


def expired(delivery: Delivery, now: float) -> DeadLetter | None:
    """The outcome of a message whose time to live has ended; None if it has not.

    :param now: on the monotonic clock, in seconds
    """
    if delivery.expires is None or now < delivery.expires:
        return None
    return DeadLetter(
        DeathReason.EXPIRED,
        MessageExpiredError("its time to live ended before its handler ran"),
    )


def in_time(
    delivery: Delivery, outcome: RetryAfter | DeadLetter | Forward, now: float
) -> RetryAfter | DeadLetter | Forward:
    """The outcome, or a dead letter in the place of a copy that would come too late.

    :param now: on the monotonic clock, in seconds
    """
    if delivery.expires is None or isinstance(outcome, DeadLetter):
        return outcome
    if isinstance(outcome, Forward):
        return expired(delivery, now) or outcome
    if now + outcome.delay < delivery.expires:
        return outcome
    error = MessageExpiredError(
        f"its time to live ends before its next attempt, which is due in {outcome.delay:g} s"
    )
    error.__cause__ = outcome.error
    return DeadLetter(DeathReason.EXPIRED, error)


def left(delivery: Delivery, now: float, delay: float = 0.0) -> float | None:
    """Seconds that a copy which comes after `delay` has to live; None is for ever.

    :param now: on the monotonic clock, in seconds
    """
    if delivery.expires is None:
        return None
    return max(delivery.expires - now - delay, 0.001)
