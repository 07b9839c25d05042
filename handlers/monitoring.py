"""The monitoring service: hears every event, and keeps the invariants while the system runs.

What it finds to be wrong is an `Alert`, kept and published once. It says nothing too early: of what
the services say it judges at once what can never be true, and what is missing when the order's time
is over. For that it sends itself a message, which comes later, behind the events of that time.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.clock import Clock
from handlers.databases import configured, keep_tables
from handlers.invariants import Event, Fact, Kind, Order, add_up, differing, fact_of, unbalanced
from handlers.messages import (
    ALERTS,
    BILLING,
    LEDGER,
    MONITORING,
    ORDERS,
    REFUNDS,
    Alert,
    AskSummary,
    Invariant,
    JudgeOrders,
    Summary,
)
from handlers.records import monitoring as records
from mqkit import Queue, Retry, Service
from mqkit.errors import StatementError
from mqkit.store import Store, Transaction

GRACE = 10.0
"""Seconds that an order's end may be late, and be heard of after its deadline."""

LATE = 300.0
"""Seconds that a service may be away, and its events with it: what is missing then is missing."""

JUDGE_EVERY = 2
"""Seconds between two judgements at least: one message for all orders of that time."""

EVENTS_QUEUE = Queue("monitoring.events", arguments={"x-single-active-consumer": True})
"""One process counts; another one goes on where it dies."""

store = Store(configured("monitoring"))
service = Service(
    "monitoring",
    store=store,
    publishes=[
        ALERTS.carries("alert.*", Alert),
        MONITORING.carries("monitoring.judge", JudgeOrders),
    ],
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        retry=retry_if_exception_type(StatementError),
    ),
)
keep_tables(service, store, records.metadata)
service.provide(Clock, Clock, scope="service")


@service.batch(
    EVENTS_QUEUE,
    bind=[
        *(ORDERS.key(f"order.{end}.#") for end in ("accepted", "executed", "refused")),
        *(LEDGER.key(f"ledger.{event}.#") for event in ("posted", "hold-changed")),
        *(REFUNDS.key(f"refund.{end}.#") for end in ("executed", "refused")),
        BILLING.key("billing.month-closed.#"),
        MONITORING.key("monitoring.judge"),
    ],
    size=500,
    within=0.2,
)
async def watch(events: list[Event | JudgeOrders], transaction: Transaction, clock: Clock) -> None:
    """Add what was said to what is known, and judge the orders that it is about."""
    connection = transaction.connection
    await records.take_turn(connection)
    said = [event for event in events if not isinstance(event, JudgeOrders)]
    found, new = await _learn(connection, said)
    orders = await _orders(connection, (fact.order_id for fact in new))
    found += [alert for order in orders for alert in order.contradictions()]
    waiting = {o.order_id: _times(o, clock.now()) for o in orders if any(o.gaps())}
    settled = {order.order_id for order in orders} - waiting.keys()
    await records.set_unsettled(connection, waiting, settled)
    for event in events:
        if isinstance(event, JudgeOrders):
            found += await _judge(connection, event.at)
    for alert in await records.add_alerts(connection, found):
        await transaction.publish(ALERTS, f"alert.{alert.invariant}", alert)
    times = {_rounded_up(at) for both in waiting.values() for at in both}
    for at in await records.new_judgements(connection, times):
        due = dt.datetime.fromtimestamp(at, dt.UTC)
        await transaction.publish(MONITORING, "monitoring.judge", JudgeOrders(at=due), at=due)


async def _learn(
    connection: AsyncConnection, events: Iterable[Event]
) -> tuple[list[Alert], list[Fact]]:
    """Keep the facts that are new; returns them, and what is wrong with each by itself."""
    stated = [(fact_of(event), event) for event in events]
    known = await records.known_facts(connection, (fact.id for fact, _ in stated))
    found: list[Alert] = []
    new: dict[Fact, Event] = {}
    for fact, event in stated:
        if (before := known.setdefault(fact.id, fact)) is fact:
            new[fact] = event
        elif before.content != fact.content:
            found.append(differing(before, fact))
    for event in new.values():
        found += unbalanced(event)
    await records.add_facts(connection, list(new))
    await records.add_to_accounts(connection, add_up(new.values()))
    return found + await _overall(connection, new), list(new)


async def _overall(connection: AsyncConnection, new: Iterable[Fact]) -> list[Alert]:
    """Judge the sum of all that was ever posted, where something was."""
    if not any(fact.kind is Kind.POSTING for fact in new):
        return []
    return [
        Alert(
            invariant=Invariant.DEBITS_EQUAL_CREDITS,
            about=f"all accounts in {each.currency}",
            what=f"debits are {each.debits:.2f}, and credits {each.credits:.2f}",
        )
        for each in await records.totals(connection)
        if each.debits != each.credits
    ]


async def _orders(connection: AsyncConnection, order_ids: Iterable[str | None]) -> list[Order]:
    found = await records.facts_of_orders(connection, filter(None, order_ids))
    return [Order(order_id, facts) for order_id, facts in found.items()]


async def _judge(connection: AsyncConnection, at: dt.datetime) -> list[Alert]:
    """Judge the orders whose time was over then by what is missing."""
    now = at.timestamp()
    await records.end_judgement(connection, int(now))
    late_at = await records.overdue(connection, now)
    waiting = {order_id: (late, late) for order_id, late in late_at.items() if late > now}
    await records.set_unsettled(connection, waiting, late_at.keys() - waiting.keys())
    return [
        alert
        for order in await _orders(connection, late_at)
        for alert in order.gaps()
        if alert.invariant is Invariant.ORDER_IN_TIME or order.order_id not in waiting
    ]


def _times(order: Order, now: dt.datetime) -> tuple[float, float]:
    """Say when an order is judged next, and when all that is missing of it is too late."""
    due = (order.deadline or 0.0) + GRACE
    late = max(due, now.timestamp() + LATE)
    return (due if due > now.timestamp() else late), late


def _rounded_up(at: float) -> int:
    return math.ceil(at / JUDGE_EVERY) * JUDGE_EVERY


@service.handler(Queue("monitoring.summary"), bind=[MONITORING.key("monitoring.summary")])
async def summary(_: AskSummary, transaction: Transaction) -> Summary:
    """Answer with what was seen so far."""
    connection = transaction.connection
    return Summary(
        counts=await records.all_counts(connection),
        totals=await records.totals(connection),
        unsettled=await records.count_unsettled(connection),
        alerts=await records.count_alerts(connection),
        latest_alerts=await records.latest_alerts(connection),
    )
