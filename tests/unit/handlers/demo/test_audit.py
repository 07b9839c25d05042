"""The checks of a demo, on books and ends that are right, and wrong in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from handlers.demo.audit import Books, Check, checks
from handlers.demo.customers import Customers
from handlers.demo.plan import FEW_ORDERS, Fate, Plan, make_plan
from handlers.messages import (
    Alert,
    Invariant,
    OrderExecuted,
    OrderRefused,
    RefundExecuted,
    RefundRefused,
    Summary,
)

PLAN = make_plan(orders=300, accounts=60)
DEAD = {"orders.place": len(PLAN.bad_orders), "refunds.requests": len(PLAN.bad_refunds)}
CENT = Decimal("0.01")


def customers_of(plan: Plan) -> Customers:
    """Tell the customers that everything has ended as planned."""
    customers = Customers(plan)
    passed: dict[int, int] = {}
    for planned in plan.orders:
        order = planned.order
        money = order.model_dump(include={"order_id", "account_id", "amount", "currency"})
        is_executed = planned.fate is Fate.EXECUTED
        if planned.fate is Fate.SOME_OF_MANY:
            passed[order.account_id] = passed.get(order.account_id, 0) + 1
            is_executed = passed[order.account_id] <= FEW_ORDERS
        if is_executed:
            customers.ends[order.order_id] = OrderExecuted(**money, partner=order.partner)
        else:
            customers.ends[order.order_id] = OrderRefused(**money, reason="as planned")
        for number, refund in enumerate(planned.refunds):
            of: dict[str, Any] = {**refund.model_dump(), "account_id": order.account_id}
            customers.refund_ends[refund.refund_id] = (
                RefundExecuted(**of)
                if number < planned.refunds_paid
                else RefundRefused(**of, reason="too much")
            )
    for refund in plan.strange_refunds:
        said = RefundRefused(**refund.model_dump(), reason="unknown")
        customers.refund_ends[refund.refund_id] = said
    return customers


def books_of(plan: Plan) -> Books:
    """Write the books as they must be."""
    paid, back, deposits = plan.paid(), plan.refunds_paid(), plan.deposited()
    fees = {currency: Decimal("1.00") for currency in deposits}
    balances = {c: deposits[c] - paid[c] + back[c] - fees[c] for c in deposits}
    by_account = {(7, "CZK"): (Decimal("5.00"), Decimal("0.00"))}
    return Books(
        deposits=deposits,
        executed=paid,
        refunded=back,
        fees=fees,
        interest={},
        balances=balances,
        held={},
        refunds_service=back,
        billed_fees=fees,
        billed_interest={},
        by_account=by_account,
        monitored=by_account,
        notified=len(plan.orders) + sum(len(planned.refunds) for planned in plan.orders),
        ledger_problems=(),
        retried={},
        unpublished={},
    )


QUIET = Summary(counts=(), totals=(), unsettled=0, alerts=0, latest_alerts=())


def broken(found: list[Check]) -> list[str]:
    return [check.what for check in found if not check.holds]


def test_what_is_as_planned_adds_up() -> None:
    """Each check holds."""
    assert broken(checks(PLAN, customers_of(PLAN), books_of(PLAN), QUIET, DEAD)) == []


MONEY = {
    "deposits": ["deposits", "balances ="],
    "executed": ["paid:", "balances ="],
    "refunded": ["paid back", "balances ="],
    "fees": ["fees", "balances ="],
    "interest": ["interest", "balances ="],
    "balances": ["balances ="],
    "held": ["nothing is held"],
    "refunds_service": ["paid back"],
    "billed_fees": ["fees"],
    "billed_interest": ["interest"],
}


@pytest.mark.parametrize("name", MONEY)
def test_a_cent_too_much_in_any_book_is_found(name: str) -> None:
    """The checks that depend on it are broken, and no others."""
    books = books_of(PLAN)
    sums = dict(getattr(books, name))
    sums["CZK"] = sums.get("CZK", Decimal(0)) + CENT
    changes: dict[str, Any] = {name: sums}
    found = broken(checks(PLAN, customers_of(PLAN), replace(books, **changes), QUIET, DEAD))
    assert len(found) == len(MONEY[name])
    for what, begins in zip(found, MONEY[name], strict=True):
        assert what.startswith(begins)


def _lose_an_end(customers: Customers) -> None:
    customers.ends.popitem()


def _execute_all(customers: Customers) -> None:
    for order_id, end in customers.ends.items():
        if isinstance(end, OrderRefused):
            money = end.model_dump(include={"order_id", "account_id", "amount", "currency"})
            partner = PLAN.orders[0].order.partner
            customers.ends[order_id] = OrderExecuted(**money, partner=partner)


def _end_what_was_never_sent(customers: Customers) -> None:
    end = next(iter(customers.ends.values()))
    customers.ends["never"] = end


@pytest.mark.parametrize("spoil", [_lose_an_end, _execute_all, _end_what_was_never_sent])
def test_an_end_that_was_not_planned_is_found(spoil: Callable[[Customers], None]) -> None:
    """The check of ends is broken, and names the order."""
    customers = customers_of(PLAN)
    spoil(customers)
    found = checks(PLAN, customers, books_of(PLAN), QUIET, DEAD)
    assert "every order has the end that was planned" in broken(found)


def test_a_refund_that_was_not_planned_is_found() -> None:
    """One that is missing, and one that is paid and should not be, are named."""
    customers = customers_of(PLAN)
    customers.refund_ends.pop("strange-0")
    (check,) = [
        check for check in checks(PLAN, customers, books_of(PLAN), QUIET, DEAD) if not check.holds
    ]
    assert check.wrong == ("strange-0, of an order that nobody knows, is not refused",)


def test_what_the_monitor_says_is_found() -> None:
    """An alert, an order that is not settled, and an account that it knows otherwise."""
    alert = Alert(invariant=Invariant.ONE_END, about="o-1", what="two")
    said = Summary(counts=(), totals=(), unsettled=2, alerts=1, latest_alerts=(alert,))
    books = replace(books_of(PLAN), monitored={})
    assert broken(checks(PLAN, customers_of(PLAN), books, said, DEAD)) == [
        "the monitor knows the same of each account",
        "the monitor has no alert",
        "the monitor waits for nothing",
    ]


def test_a_notification_too_few_is_found() -> None:
    """Each end of an order or refund is told once; those of unknown orders have no customer."""
    books = books_of(PLAN)
    found = checks(
        PLAN, customers_of(PLAN), replace(books, notified=books.notified - 1), QUIET, DEAD
    )
    assert broken(found) == ["each end was told to its customer once"]


@pytest.mark.parametrize("dead", [{}, {**DEAD, "ledger.commands": 1}])
def test_dead_letters_that_were_not_planned_are_found(dead: dict[str, int]) -> None:
    """Bad messages that are not dead-lettered, and others that are."""
    found = broken(checks(PLAN, customers_of(PLAN), books_of(PLAN), QUIET, dead))
    assert found == ["bad messages are dead-lettered, and nothing else"]


def test_what_is_committed_and_not_published_is_found() -> None:
    """A message that stays in an outbox is counted by its service."""
    books = replace(books_of(PLAN), unpublished={"ledger": 3, "risk": 0})
    found = [c for c in checks(PLAN, customers_of(PLAN), books, QUIET, DEAD) if not c.holds]
    assert [check.wrong for check in found] == [("3 of ledger",)]
