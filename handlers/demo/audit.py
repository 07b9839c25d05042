"""Adds up what the services' databases have, and compares it with what was planned.

Each figure is read from the database of the service that knows it, and compared with others: the
ledger's sums with what the customers were told, the refunds service's, billing's, the monitor's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting import audit
from handlers.accounting.double_entry import CUSTOMER_PREFIX
from handlers.accounting.schema import accounts, commands, sides
from handlers.demo.customers import Customers
from handlers.demo.plan import Fate, Plan
from handlers.invariants import Kind
from handlers.messages import Currency, OrderExecuted, OrderRefused, RefundExecuted, Summary
from handlers.records import billing, monitoring, notifications, refunds
from mqkit.store import Store

Sums = Mapping[str, Decimal]
"""An amount for each currency."""

SHOWN = 5
"""Things that are wrong which one check names."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so."""

    what: str
    wrong: tuple[str, ...] = ()
    """What is wrong; nothing, if all is well."""

    @property
    def holds(self) -> bool:
        """Whether all is well."""
        return not self.wrong


@dataclass(frozen=True, slots=True)
class Books:
    """What the databases say of money, by currency, and of messages, by service."""

    deposits: Sums
    executed: Sums
    refunded: Sums
    fees: Sums
    interest: Sums
    balances: Sums
    held: Sums
    refunds_service: Sums
    """What refunds paid back, by the refunds service."""
    billed_fees: Sums
    billed_interest: Sums
    by_account: Mapping[tuple[int, str], tuple[Decimal, Decimal]]
    """Each account's balance, and what is held on it, by the ledger."""
    monitored: Mapping[tuple[int, str], tuple[Decimal, Decimal]]
    """The same, by the monitoring service, which knows it from events alone."""
    notified: int
    """Notifications that customers were sent."""
    ledger_problems: tuple[str, ...]
    retried: Mapping[str, int]
    """Messages that were handled at a later attempt than the first, or wait for one."""
    unpublished: Mapping[str, int]
    """Messages that are committed, and not published."""


async def read_books(databases: Mapping[str, str]) -> Books:
    """Read the services' databases; they must not run any more."""
    async with Store(databases["ledger"], relay=False) as store, store.transaction() as of:
        posted = await _posted(of.connection)
        by_account = {
            (row.account_id, row.currency): (row.balance, row.held)
            for row in await of.connection.execute(select(accounts))
        }
        problems = tuple([problem async for problem in audit.problems(of.connection)])
    async with Store(databases["refunds"], relay=False) as store, store.transaction() as of:
        paid = refunds.refunds.c.state == refunds.State.EXECUTED
        table = refunds.refunds
        paid_back = await _sums(of.connection, table, table.c.amount, paid)
    async with Store(databases["billing"], relay=False) as store, store.transaction() as of:
        table = billing.statements
        fees = await _sums(of.connection, table, table.c.fee)
        interest = await _sums(of.connection, table, table.c.interest)
    async with Store(databases["monitoring"], relay=False) as store, store.transaction() as of:
        table = monitoring.accounts
        monitored = {
            (int(row.account.removeprefix(CUSTOMER_PREFIX)), row.currency): (
                row.credits - row.debits,
                row.held,
            )
            for row in await of.connection.execute(select(table))
            if row.account.startswith(CUSTOMER_PREFIX)
        }
    async with Store(databases["notifications"], relay=False) as store, store.transaction() as of:
        table = notifications.notifications
        notified = await of.connection.scalar(select(func.count()).select_from(table))
    messages = dict(zip(databases, await _all_messages(databases), strict=True))
    return Books(
        deposits=posted.get("deposit", {}),
        executed={currency: -amount for currency, amount in posted.get("execute", {}).items()},
        refunded=posted.get("refund", {}),
        fees={currency: -amount for currency, amount in posted.get("charge", {}).items()},
        interest=posted.get("interest", {}),
        balances=_added((currency, balance) for (_, currency), (balance, _) in by_account.items()),
        held=_added((currency, held) for (_, currency), (_, held) in by_account.items()),
        refunds_service=paid_back,
        billed_fees=fees,
        billed_interest=interest,
        by_account=by_account,
        monitored=monitored,
        notified=notified or 0,
        ledger_problems=problems,
        retried={name: retried for name, (retried, _) in messages.items()},
        unpublished={name: unpublished for name, (_, unpublished) in messages.items()},
    )


async def is_all_done(databases: Mapping[str, str], monitor: Summary) -> bool:
    """Tell whether no outbox holds a message, and all that was billed is posted and monitored."""
    async with Store(databases["billing"], relay=False) as store, store.transaction() as of:
        table = billing.statements
        fees = await of.connection.scalar(select(func.count()).select_from(table))
        earned = select(func.count()).select_from(table).where(table.c.interest != Decimal(0))
        interest = await of.connection.scalar(earned)
    posted = Counter[str]()
    for count in monitor.counts:
        if count.kind == Kind.POSTING:
            posted[count.detail] += count.number
    if (posted["charge"], posted["interest"]) != (fees, interest):
        return False
    return not any(unpublished for _, unpublished in await _all_messages(databases))


async def _all_messages(databases: Mapping[str, str]) -> list[tuple[int, int]]:
    return [await _messages(url) for url in databases.values()]


async def _posted(connection: AsyncConnection) -> Mapping[str, Sums]:
    """Sum what each kind of command posted to customers' accounts."""
    query = (
        select(commands.c.kind, sides.c.currency, func.sum(sides.c.amount))
        .join_from(commands, sides)
        .where(sides.c.account.startswith(CUSTOMER_PREFIX, autoescape=True))
        .group_by(commands.c.kind, sides.c.currency)
    )
    posted: dict[str, dict[str, Decimal]] = {}
    for kind, currency, amount in await connection.execute(query):
        posted.setdefault(kind, {})[currency] = amount
    return posted


async def _sums(
    connection: AsyncConnection, table: Table, amount: Column[Decimal], *where: Any
) -> Sums:
    query = select(table.c.currency, func.sum(amount)).where(*where).group_by(table.c.currency)
    return {currency: total for currency, total in await connection.execute(query) if total}


async def _messages(url: str) -> tuple[int, int]:
    """Count the messages that took more than one attempt, and those that are not published."""
    async with Store(url, relay=False) as store:
        unpublished = await store.pending()
        async with store.transaction() as of:
            return await of.connection.scalar(_RETRIED) or 0, unpublished


_RETRIED = text(
    "SELECT COUNT(*) FROM (SELECT message_id, queue FROM mqkit_inbox WHERE attempt > 1 "
    "UNION SELECT message_id, queue FROM mqkit_state WHERE attempt > 1) AS retried"
)


def _added(amounts: Iterable[tuple[str, Decimal]]) -> Sums:
    sums: dict[str, Decimal] = {}
    for currency, amount in amounts:
        sums[currency] = sums.get(currency, Decimal("0.00")) + amount
    return sums


def checks(
    plan: Plan, customers: Customers, books: Books, monitor: Summary, dead: Mapping[str, int]
) -> list[Check]:
    """Compare all of it; each check must hold."""
    expected = {currency: Decimal("0.00") for currency in Currency}
    for sign, sums in (
        (1, books.deposits),
        (-1, books.executed),
        (1, books.refunded),
        (-1, books.fees),
        (1, books.interest),
    ):
        for currency, amount in sums.items():
            expected[Currency(currency)] += sign * amount
    unpublished = [f"{n} of {name}" for name, n in books.unpublished.items() if n]
    accounts = _different("account", books.by_account, books.monitored)
    told = [f"{alert.invariant}: {alert.about}: {alert.what}" for alert in monitor.latest_alerts]
    return [
        Check("every order has the end that was planned", tuple(_wrong_ends(plan, customers))),
        Check("every refund has the end that was planned", tuple(_wrong_refunds(plan, customers))),
        _same("deposits: planned, and posted", plan.deposited(), books.deposits),
        _same("paid: planned, told, and posted", plan.paid(), customers.paid(), books.executed),
        _same(
            "paid back: planned, told, and posted",
            *(plan.refunds_paid(), customers.paid_back(), books.refunds_service, books.refunded),
        ),
        _same("fees: billed, and posted", books.billed_fees, books.fees),
        _same("interest: billed, and posted", books.billed_interest, books.interest),
        _same("balances = deposits - paid + paid back - fees + interest", expected, books.balances),
        _same("nothing is held", {}, books.held),
        Check("debits equal credits, and the ledger adds up", books.ledger_problems[:SHOWN]),
        Check("the monitor knows the same of each account", tuple(accounts[:SHOWN])),
        Check("each end was told to its customer once", tuple(_wrongly_told(customers, books))),
        Check("the monitor has no alert", tuple(told)),
        Check(
            "the monitor waits for nothing",
            (f"{monitor.unsettled} orders",) if monitor.unsettled else (),
        ),
        Check("all that was committed is published", tuple(unpublished)),
        Check("bad messages are dead-lettered, and nothing else", tuple(_wrongly_dead(plan, dead))),
    ]


def _wrong_ends(plan: Plan, customers: Customers) -> Iterable[str]:
    passed = 0
    some = 0
    for planned in plan.orders:
        order_id = planned.order.order_id
        end = customers.ends.get(order_id)
        is_executed = isinstance(end, OrderExecuted)
        if end is None:
            yield f"{order_id} has no end"
        elif planned.fate is Fate.SOME_OF_MANY:
            some += 1
            passed += is_executed
        elif is_executed != (planned.fate is Fate.EXECUTED):
            why = f": {end.reason}" if isinstance(end, OrderRefused) else ""
            yield f"{order_id} should be {planned.fate}, and is {_end(end)}{why}"
        if end is not None and (end.amount, end.currency) != (
            planned.order.amount,
            planned.order.currency,
        ):
            yield f"{order_id} ended with another amount"
    if some and passed * 2 != some:
        yield f"of {some} orders of limited accounts {passed} were executed"
    known = {planned.order.order_id for planned in plan.orders}
    yield from (f"{order_id} was never sent" for order_id in customers.ends.keys() - known)


def _end(end: OrderExecuted | OrderRefused) -> str:
    return "executed" if isinstance(end, OrderExecuted) else "refused"


def _wrong_refunds(plan: Plan, customers: Customers) -> Iterable[str]:
    ends = customers.refund_ends
    for planned in plan.orders:
        there = [ends.get(refund.refund_id) for refund in planned.refunds]
        if None in there:
            yield f"{there.count(None)} refunds of {planned.order.order_id} have no end"
        paid = sum(isinstance(end, RefundExecuted) for end in there)
        if paid != planned.refunds_paid:
            yield f"{paid} refunds of {planned.order.order_id} are paid"
    for refund in plan.strange_refunds:
        if refund.refund_id not in ends or isinstance(ends[refund.refund_id], RefundExecuted):
            yield f"{refund.refund_id}, of an order that nobody knows, is not refused"


def _wrongly_told(customers: Customers, books: Books) -> Iterable[str]:
    # A refund of an order that nobody knows has no customer.
    refunds = [end for end in customers.refund_ends.values() if end.account_id is not None]
    ends = len(customers.ends) + len(refunds)
    if books.notified != ends:
        yield f"{books.notified} notifications of {ends} ends"


def _wrongly_dead(plan: Plan, dead: Mapping[str, int]) -> Iterable[str]:
    planned = {"orders.place": len(plan.bad_orders), "refunds.requests": len(plan.bad_refunds)}
    for queue in sorted({*planned, *dead}):
        if dead.get(queue, 0) != planned.get(queue, 0):
            yield f"{dead.get(queue, 0)} of {queue}, and not {planned.get(queue, 0)}"


def _same(what: str, first: Mapping[Any, Decimal], *others: Mapping[Any, Decimal]) -> Check:
    """Check that all say the same of each currency; what is not there is zero."""
    wrong = []
    for currency in Currency:
        figures = [sums.get(currency, Decimal(0)) for sums in (first, *others)]
        if len(set(figures)) > 1:
            wrong.append(f"{currency}: " + ", ".join(f"{figure:,.2f}" for figure in figures))
    return Check(what, tuple(wrong))


def _different(what: str, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> list[str]:
    zeros = (Decimal(0), Decimal(0))
    return [
        f"{what} {key[0]}: {one.get(key, zeros)} in the ledger, {other.get(key, zeros)} monitored"
        for key in sorted({*one, *other})
        if one.get(key, zeros) != other.get(key, zeros)
    ]
