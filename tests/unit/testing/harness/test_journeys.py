from __future__ import annotations

from mqkit import Delivery
from mqkit.message import Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter
from mqkit.testing.harness.journeys import Journey, Journeys

ERROR = ValueError("no")
DEAD = DeadLetter(DeathReason.REJECTED, ERROR)


class Clocked(Journeys):
    """Journeys with a clock that the test sets."""

    def __init__(self, *holding: str) -> None:
        self.time = 0.0
        super().__init__(lambda: self.time, holding)

    def settle(self, outcome: Outcome, attempt: int = 1, message_id: str = "m") -> None:
        properties = Properties(message_id=message_id)
        self.settled(Delivery(properties=properties, queue="q", attempt=attempt), outcome)

    def only(self) -> Journey:
        (journey,) = self.find("m")
        return journey


async def test_a_journey_ends_with_an_ack_or_a_dead_letter() -> None:
    """A published message is under way until then, over all its attempts."""
    for end in (Ack(), DEAD):
        journeys = Clocked()
        journeys.published("m", "q")
        assert journeys.under_way() == journeys.unended() == [journeys.only()]
        journeys.settle(RetryAfter(0, ERROR))
        assert journeys.under_way()
        journeys.settle(end, 2)
        assert not journeys.unended()
        assert [each.outcome for each in journeys.only().result().attempts][-1] == end


async def test_a_retry_waits_until_it_is_due() -> None:
    """In between it is not under way, and its time is rounded up to what the broker can hold."""
    journeys = Clocked()
    journeys.published("m", "q")
    journeys.time = 5.0
    journeys.settle(RetryAfter(9.95, ERROR))
    assert not journeys.under_way()
    assert journeys.unended()
    assert journeys.next_due() == 15.0
    journeys.time = 15.0
    assert journeys.under_way()
    assert journeys.next_due() is None


async def test_a_retry_may_come_early() -> None:
    """The broker counts from a little before; one that was lost then does not wait any more."""
    journeys = Clocked()
    journeys.published("m", "q")
    journeys.settle(RetryAfter(10, ERROR))
    journeys.time = 9.99
    journeys.settle(Lost(), 2)
    assert journeys.under_way()


async def test_a_retry_may_be_made_without_a_copy() -> None:
    """A handler that keeps an order settles a message once, at its last attempt."""
    journeys = Clocked("q")
    journeys.published("m", "q")
    assert "order_by does in real time" in journeys.describe(journeys.unended())
    journeys.settle(Ack(), 3)
    assert not journeys.unended()
    assert [each.number for each in journeys.only().result().attempts] == [3]


async def test_a_publish_may_be_seen_after_its_end() -> None:
    """A message that was handled before its publisher heard of the confirm is expected no more."""
    journeys = Clocked()
    journeys.settle(Ack())
    journeys.published("m", "q")
    assert not journeys.unended()
    journeys.published("m", "q")
    assert len(journeys.unended()) == 1


async def test_what_was_lost_or_given_back_comes_again() -> None:
    """The same attempt is expected once more, and both are in the history."""
    journeys = Clocked()
    journeys.published("m", "q")
    for outcome in (Lost(), Requeue()):
        journeys.settle(outcome)
        assert journeys.under_way()
    journeys.settle(Ack())
    assert not journeys.unended()
    assert [each.number for each in journeys.only().attempts] == [1, 1, 1]


async def test_a_retry_that_was_not_counted_has_the_same_number_again() -> None:
    """Its next delivery belongs to the same journey, and is attempt 1 once more."""
    journeys = Clocked()
    journeys.published("m", "q")
    journeys.settle(RetryAfter(0, ERROR, counted=False))
    journeys.settle(Ack())
    assert not journeys.unended()
    assert [each.number for each in journeys.only().attempts] == [1, 1]


async def test_a_second_copy_of_a_retry_is_a_journey_of_its_own() -> None:
    """Where a connection is lost between copy and ack, the second one is no publish of its own."""
    journeys = Clocked()
    journeys.published("m", "q")
    journeys.settle(Lost())
    journeys.settle(Ack(), 2)
    assert len(journeys.unended()) == 1
    journeys.settle(RetryAfter(0, ERROR))
    journeys.settle(Ack(), 2)
    assert not journeys.unended()
    journeys.published("m", "q")
    assert journeys.unended(), "a publish of the same message that comes later is another one"


async def test_messages_are_told_apart() -> None:
    """By id and by queue; one published twice is on two journeys."""
    journeys = Clocked()
    for message_id, queue in (("m", "q"), ("n", "q"), ("m", "r"), ("m", "q")):
        journeys.published(message_id, queue)
    journeys.settle(Ack())
    assert [each.has_ended for each in journeys.find("m", "q")] == [True, False]
    assert len(journeys.find("m")) == 3
    assert len(journeys.unended()) == 3


async def test_a_change_is_told() -> None:
    """Whoever waits is told of the next change, and of the one after that."""
    journeys = Clocked()
    first = journeys.changed
    journeys.published("m", "q")
    assert first.done()
    second = journeys.changed
    assert not second.done()
    journeys.settle(Ack())
    assert second.done()


async def test_journeys_are_described() -> None:
    """What an error shows says how far each came, and of many only some."""
    journeys = Clocked()
    assert journeys.describe([]) == "nothing is known of it"
    journeys.published("m", "q")
    assert journeys.describe(journeys.unended()) == (
        "message m in q: published; attempt 1 has not ended"
    )
    journeys.settle(RetryAfter(3600, ERROR))
    told = (
        "message m in q: attempt 1 failed with ValueError, retry in 3600 s; "
        "attempt 2 is due in 3,600.0 s"
    )
    assert journeys.describe(journeys.unended()) == told
    assert journeys.late(journeys.unended(), 3601) is None
    assert journeys.late(journeys.unended(), 3599) == told
    for n in range(20):
        journeys.published(str(n), "q")
    assert journeys.describe(journeys.unended()).endswith("and 11 more")
