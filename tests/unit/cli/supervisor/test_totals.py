"""Counting what became of messages."""

from __future__ import annotations

from pydantic import TypeAdapter

from mqkit import Delivery
from mqkit.cli.supervisor.totals import Settled, Totals, totals_of
from mqkit.message import Message
from mqkit.observability.states.tally import Tally
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter

ERROR = RuntimeError("on purpose")

EACH: list[Outcome] = [
    Ack(),
    RetryAfter(1.0, ERROR),
    DeadLetter(DeathReason.REJECTED, ERROR),
    Requeue(),
    Lost(),
]


def test_each_outcome_is_counted_by_handler() -> None:
    """Every kind has a count of its own, for each handler that has settled anything."""
    tally = Tally()
    for times, outcome in enumerate(EACH, start=1):
        for _ in range(times):
            tally.settled("post", Delivery(queue="orders"), outcome)
    tally.settled("pay_back", Delivery(queue="refunds"), Ack())
    tally.settled("other", Delivery(queue="orders"), Lost())
    tally.publish_ended(Message("", "k", b""), 0.1, None)
    tally.publish_ended(Message("", "k", b""), 0.1, ERROR)
    tally.held("held", Delivery(queue="orders"), RetryAfter(1.0, ERROR))
    assert totals_of(tally, in_flight=7) == Totals(
        {"post": Settled(1, 2, 3, 4, 5), "pay_back": Settled(acked=1), "other": Settled(lost=1)},
        published=1,
        in_flight=7,
    )


def test_totals_add_up() -> None:
    """Over processes by handler, and over handlers by kind."""
    one = Totals({"post": Settled(1, 2, 3, 4, 5)}, published=1, in_flight=2)
    two = Totals({"post": Settled(10), "pay_back": Settled(0, 0, 0, 0, 50)}, 10, 20, restarts=3)
    both = one + two
    assert both == Totals(
        {"post": Settled(11, 2, 3, 4, 5), "pay_back": Settled(lost=50)}, 11, 22, 3
    )
    assert both.settled == Settled(11, 2, 3, 4, 55)
    assert both.at_rest().in_flight == 0
    assert one + Totals() == one


def test_they_survive_the_way_to_the_supervisor() -> None:
    """As JSON and back they are the same."""
    totals = Totals({"post": Settled(1, 2, 3, 4, 5)}, published=1, in_flight=2, restarts=3)
    adapter = TypeAdapter(Totals)
    assert adapter.validate_json(adapter.dump_json(totals)) == totals


def test_they_are_one_line() -> None:
    """What is not zero is named; nothing at all is said to be nothing."""
    totals = Totals({"post": Settled(acked=3, dead_lettered=1)}, published=1, restarts=2)
    assert str(totals) == (
        "post: 3 acked, 1 dead-lettered; published: 1; in flight: 0; restarts: 2"
    )
    assert str(Totals()) == "none settled; published: 0; in flight: 0; restarts: 0"
