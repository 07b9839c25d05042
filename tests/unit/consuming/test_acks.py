"""Which acks are written for what is done."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from mqkit.consuming.acks import Acks
from mqkit.message import Delivery, DeliveryChannel
from mqkit.outcome import Ack


class Broker:
    """What a channel of the broker holds unacked; it closes the channel over an ack of another."""

    def __init__(self, count: int) -> None:
        self.unacked = set(range(1, count + 1))

    def ack(self, tag: int, multiple: bool) -> None:
        assert tag in self.unacked, f"PRECONDITION_FAILED - unknown delivery tag {tag}"
        self.unacked -= {t for t in self.unacked if t == tag or (multiple and t < tag)}


@given(st.permutations(range(1, 15)), st.data())
def test_exactly_what_is_done_is_acked(order: list[int], data: st.DataObject) -> None:
    """In whatever order deliveries end, and some are nacked: none is acked early, and none late."""
    broker = Broker(len(order))
    acks = Acks(cast("DeliveryChannel", broker))
    done = set[int]()
    left = set(order)
    for tag in order:
        delivery = Delivery(tag=tag)
        left.discard(tag)
        if data.draw(st.booleans()):
            broker.unacked.discard(tag)
            acks.nacked(delivery)
        else:
            first = acks.add(delivery, Ack())
            assert first == (not done)
            done.add(tag)
        if data.draw(st.booleans()):
            writes, due = acks.take()
            assert {each.tag for each, _ in due} == done
            for each, multiple in writes:
                broker.ack(each, multiple)
            done.clear()
            assert broker.unacked == left
    for each, multiple in acks.take()[0]:
        broker.ack(each, multiple)
    assert not broker.unacked


def test_many_in_order_are_one_ack() -> None:
    """All up to the first unfinished one go as one frame, and those beyond it as one each."""
    acks = Acks(cast("DeliveryChannel", None))
    for tag in (1, 2, 3, 5, 7):
        acks.add(Delivery(tag=tag), Ack())
    assert acks.take()[0] == [(3, True), (5, False), (7, False)]
    acks.add(Delivery(tag=4), Ack())
    assert acks.take()[0] == [(4, False)]
    acks.add(Delivery(tag=6), Ack())
    assert acks.take()[0] == [(6, False)]
