"""Which acks are written for what is done, and how long the channel stays open after."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.consuming.acks import ANSWERED, TICK, UNDER_WAY, AckBatch, CloseDelay
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
    """In whatever order deliveries end, and some are nacked: none is acked early, and none late.

    And the last that the broker still holds is known.
    """
    broker = Broker(len(order))
    acks = AckBatch(cast("DeliveryChannel", broker))
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
            to = data.draw(st.integers(0, len(order)))
            assert acks.last_unsettled(to) == max((each for each in left if each <= to), default=0)
    for each, multiple in acks.take()[0]:
        broker.ack(each, multiple)
    assert not broker.unacked


def test_many_in_order_are_one_ack() -> None:
    """All up to the first unfinished one go as one frame, and those beyond it as one each."""
    acks = AckBatch(cast("DeliveryChannel", None))
    for tag in (1, 2, 3, 5, 7):
        acks.add(Delivery(tag=tag), Ack())
    assert acks.take()[0] == [(3, True), (5, False), (7, False)]
    acks.add(Delivery(tag=4), Ack())
    assert acks.take()[0] == [(4, False)]
    acks.add(Delivery(tag=6), Ack())
    assert acks.take()[0] == [(6, False)]


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_few_commands_need_no_wait() -> None:
    """What a channel passes on at once is not lost with it."""
    delay = CloseDelay(Clock())
    assert delay.seconds() == 0
    delay.wrote(UNDER_WAY - 1)
    assert delay.seconds() == 0


def test_many_commands_are_waited_for_until_the_queue_has_answered() -> None:
    """The wait ends some time after the last of them, and no command is counted for longer."""
    clock = Clock()
    delay = CloseDelay(clock)
    for _ in range(UNDER_WAY):
        delay.wrote(1)
    assert delay.seconds() == pytest.approx(TICK + ANSWERED)
    clock.now += 0.2
    assert delay.seconds() == pytest.approx(TICK + ANSWERED - 0.2)
    clock.now += delay.seconds() + 0.001
    assert delay.seconds() == 0


def test_what_came_after_many_does_not_make_the_wait_longer() -> None:
    """A few acks after many need no wait of their own."""
    clock = Clock()
    delay = CloseDelay(clock)
    delay.wrote(500)
    clock.now += 0.3
    delay.wrote(UNDER_WAY - 1)
    assert delay.seconds() == pytest.approx(TICK + ANSWERED - 0.3)


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 20)), min_size=1, max_size=200))
def test_no_more_are_without_an_answer_than_are_passed_on_at_once(
    writes: list[tuple[float, int]],
) -> None:
    """Whenever the wait ends, fewer commands than that are younger than what a queue needs."""
    clock = Clock()
    delay = CloseDelay(clock)
    noted: list[tuple[float, int]] = []
    for later, commands in writes:
        clock.now += later
        delay.wrote(commands)
        noted.append((clock.now, commands))
    clock.now += delay.seconds()
    young = sum(count for at, count in noted if at > clock.now - ANSWERED + 1e-6)
    assert young < UNDER_WAY
    assert clock.now <= noted[-1][0] + TICK + ANSWERED + 1e-6
