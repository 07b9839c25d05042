"""Counting what a process does."""

from __future__ import annotations

import asyncio

from mqkit import Delivery
from mqkit.message import Message
from mqkit.observability.states.tally import Tally
from mqkit.outcome import Ack, DeadLetter, DeathReason, Forward, Lost, Outcome, Requeue, RetryAfter

ERROR = RuntimeError("on purpose")


def delivery(seconds: float | None = None) -> Delivery:
    """One that ran for so long; None: it did not run."""
    made = Delivery(queue="orders")
    if seconds is not None:
        made.ran = (10.0, 10.0 + seconds)
    return made


def test_outcomes_and_runs_are_counted_together() -> None:
    """Each outcome has a count, a run its seconds, and what did not run has none."""
    tally = Tally()
    settled: list[tuple[Delivery, Outcome]] = [
        (delivery(0.5), Ack()),
        (delivery(0.25), Ack()),
        (delivery(), Ack()),
        (delivery(0.25), RetryAfter(1.0, ERROR)),
        (delivery(), DeadLetter(DeathReason.REJECTED, ERROR)),
        (delivery(), Requeue()),
        (delivery(), Lost()),
        (delivery(), Forward("orders.1")),
    ]
    tally.settled_together("post", settled)
    tally.settled("other", delivery(), Ack())
    counted = dict(tally.counted)
    post = counted["post", "orders"]
    assert (post.acked, post.retried, post.dead_lettered, post.requeued, post.lost) == (
        3,
        1,
        1,
        1,
        1,
    )
    assert (post.runs, post.seconds) == (3, 1.0)
    assert counted["other", "orders"].acked == 1


def test_a_retry_in_its_place_is_held_and_not_settled() -> None:
    """The run that failed counts as a run."""
    tally = Tally()
    tally.held("post", delivery(0.5), RetryAfter(1.0, ERROR))
    post = tally.of("post", "orders")
    assert (post.held, post.retried, post.runs, post.seconds) == (1, 0, 1, 0.5)


def test_publishes_are_counted_by_result() -> None:
    """Those that were confirmed, and those that failed by why."""
    tally, message = Tally(), Message("", "k", b"")
    for error in (None, None, asyncio.CancelledError(), RuntimeError("defect")):
        tally.publish_ended(message, 0.1, error)
    assert tally.published == {"confirmed": 2, "cancelled": 1, "failed": 1}
