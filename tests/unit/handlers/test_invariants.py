"""The invariants of the payments, judged without a database."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.invariants import Event, Order, add_up, fact_of, unbalanced
from handlers.messages import HoldState, RefundRefused
from tests.unit.handlers.histories import BROKEN, Payment, posted

cents = st.integers(1, 10**6).map(lambda number: Decimal(number) / 100)


@st.composite
def right(draw: st.DrawFn) -> list[Event]:
    """Draw a history in which nothing is wrong."""
    payment = Payment("o-1", draw(cents))
    kind = draw(st.sampled_from(["executed", "released", "refused"]))
    if kind == "released":
        return payment.released_history()
    if kind == "refused":
        return payment.refused_history()
    first = draw(st.integers(0, int(payment.amount * 100)))
    second = draw(st.integers(0, int(payment.amount * 100) - first))
    refunds = [Decimal(part) / 100 for part in (first, second) if part]
    return payment.executed_history(*refunds)


@given(right(), st.data())
def test_no_part_of_a_right_history_is_a_contradiction(
    history: list[Event], data: st.DataObject
) -> None:
    """Whatever has come and whatever is still to come, in any order, nothing is said against it."""
    come = data.draw(st.lists(st.sampled_from(history), unique_by=lambda e: fact_of(e).id))
    order = Order("o-1", map(fact_of, come))
    assert list(order.contradictions()) == []


@given(right())
def test_a_right_history_misses_nothing(history: list[Event]) -> None:
    """Once all of it has come, nothing is open."""
    order = Order("o-1", map(fact_of, history))
    assert list(order.gaps()) == []
    assert [alert for event in history for alert in unbalanced(event)] == []


@given(right(), st.data())
def test_a_right_history_without_one_event_misses_something(
    history: list[Event], data: st.DataObject
) -> None:
    """Each is needed, but for a refused refund, and the accepting of what was refused."""
    needed = [event for event in history if not isinstance(event, RefundRefused)]
    if len(history) == len(Payment("o-1").refused_history()):
        needed = needed[1:]
    left_out = data.draw(st.sampled_from(needed))
    order = Order("o-1", [fact_of(event) for event in history if event is not left_out])
    assert list(order.gaps())


@pytest.mark.parametrize("what", BROKEN)
def test_the_same_content_is_one_fact(what: str) -> None:
    """A copy of an event, under whatever message id, states the same fact."""
    for event in BROKEN[what][2]():
        copy = type(event).model_validate_json(event.model_dump_json())
        assert fact_of(copy) == fact_of(event)


def test_what_is_held_is_added_up_for_each_account() -> None:
    """A hold adds to it and its end takes it away, and a posting changes the balance alone."""
    one, other = Payment("o-1"), Payment("o-2", Decimal("2.50"))
    events: list[Event] = [one.hold(HoldState.PLACED), other.hold(HoldState.PLACED), one.paid()]
    zero, ten = Decimal("0.00"), Decimal("10.00")
    assert add_up(events) == {
        ("customer:7", "CZK"): (ten, zero, Decimal("12.50")),
        ("bank:clearing", "CZK"): (zero, ten, zero),
    }
    assert add_up([one.hold(HoldState.RELEASED)])["customer:7", "CZK"] == (zero, zero, -ten)


def test_a_posting_that_is_not_balanced_is_named_with_its_currency() -> None:
    """It says by how much, in which currency."""
    (alert,) = unbalanced(posted("deposit-1", "deposit", Decimal("5.00"), off=Decimal("-0.01")))
    assert alert.about == "deposit-1"
    assert alert.what == "its sides in CZK sum to -0.01 and not to zero"
