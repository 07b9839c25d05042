"""What a demo sends, and what must become of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from handlers.demo.plan import FEW_ORDERS, Fate, Plan, make_plan
from handlers.messages import PlaceOrder, RequestRefund

plans = st.builds(
    lambda seed, accounts, more: make_plan(seed=seed, accounts=accounts, orders=accounts + more),
    st.integers(0, 10**6),
    st.integers(10, 80),
    st.integers(0, 300),
)


def test_the_same_seed_gives_the_same_plan() -> None:
    """A run can be repeated to the last message, and another seed gives another one."""
    assert make_plan(seed=5, orders=200, accounts=20) == make_plan(seed=5, orders=200, accounts=20)
    assert make_plan(seed=5, orders=200, accounts=20) != make_plan(seed=6, orders=200, accounts=20)


@given(plans)
@settings(max_examples=20)
def test_an_account_can_pay_what_it_must_in_any_order(plan: Plan) -> None:
    """It has enough for all of its orders that must be executed, and for none that must not."""
    has: defaultdict[int, Decimal] = defaultdict(Decimal)
    limits = {limit.account_id: limit for limit in plan.limits}
    refused = {each.partner for each in plan.refused_partners}
    for account in plan.accounts:
        has[account.account_id] += account.overdraft
    for deposit in plan.deposits:
        has[deposit.account_id] += deposit.amount
    must: defaultdict[int, Decimal] = defaultdict(Decimal)
    for planned in plan.orders:
        order, limit = planned.order, limits[planned.order.account_id]
        assert (order.partner in refused) == (planned.fate is Fate.REFUSED_PARTNER)
        assert (order.amount > limit.most_per_order) == (planned.fate is Fate.OVER_LIMIT)
        if planned.fate in (Fate.EXECUTED, Fate.SOME_OF_MANY):
            must[order.account_id] += order.amount
        elif planned.fate is Fate.NO_MONEY:
            assert order.amount > has[order.account_id]
    assert all(amount <= has[account] for account, amount in must.items())


@given(plans)
@settings(max_examples=20)
def test_of_a_limited_account_half_of_the_orders_pass(plan: Plan) -> None:
    """They are of one amount, so that the sum is known, whichever come first."""
    limited = {limit.account_id for limit in plan.limits if limit.most_orders == FEW_ORDERS}
    of_limited = [p for p in plan.orders if p.order.account_id in limited]
    assert {planned.fate for planned in of_limited} <= {Fate.SOME_OF_MANY}
    assert len({planned.order.amount for planned in of_limited}) <= 1
    sent = Counter(planned.order.account_id for planned in of_limited)
    assert set(sent.values()) <= {2 * FEW_ORDERS}


@given(plans)
@settings(max_examples=20)
def test_refunds_that_must_be_paid_are_no_more_than_was_paid(plan: Plan) -> None:
    """Of those asked for, so many fit in whatever order, and one more does not."""
    for planned in plan.orders:
        assert planned.refunded <= planned.order.amount
        amounts = sorted(refund.amount for refund in planned.refunds)
        rest = amounts[planned.refunds_paid :]
        assert sum(amounts[: planned.refunds_paid], Decimal(0)) == planned.refunded
        assert all(planned.refunded + amount > planned.order.amount for amount in rest)


def test_bad_messages_are_none_or_reuse_an_id_with_another_content() -> None:
    """Each is refused by the messages' own types, or its order is known with another amount."""
    plan = make_plan()
    known = {planned.order.order_id: planned.order for planned in plan.orders}
    reused = 0
    for body in plan.bad_orders:
        try:
            order = PlaceOrder.model_validate_json(body)
        except ValidationError:
            continue
        assert known[order.order_id] != order
        reused += 1
    assert 0 < reused < len(plan.bad_orders)
    for body in plan.bad_refunds:
        with pytest.raises(ValidationError):
            RequestRefund.model_validate_json(body)


@pytest.mark.parametrize(("orders", "accounts"), [(9, 9), (19, 20), (0, 0)])
def test_too_few_are_refused(orders: int, accounts: int) -> None:
    """There are ten accounts at least, and an order for each."""
    with pytest.raises(ValueError, match="ten accounts or more"):
        make_plan(orders=orders, accounts=accounts)
