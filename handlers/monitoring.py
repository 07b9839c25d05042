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
"""Seconds that events may be late: what is missing then, after the order's deadline, is missing."""

JUDGE_EVERY = 2
"""Seconds between two judgements at least: one message for all orders of that time."""

EVENTS_QUEUE = Queue("monitoring.events", arguments={"x-single-active-consumer": True})
"""One process counts; another one goes on where it dies."""

store = Store(configured("monitoring"))
service = Service(
    "monitoring",
    store=store,
    publishes=[ALERTS, MONITORING],
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
    judge_at = {o.order_id: _judge_at(o, clock.now()) for o in orders if any(o.gaps())}
    settled = {order.order_id for order in orders} - judge_at.keys()
    await records.set_unsettled(connection, judge_at, settled)
    for event in events:
        if isinstance(event, JudgeOrders):
            found += await _judge(connection, event.at)
    for alert in await records.add_alerts(connection, found):
        await transaction.publish(ALERTS, f"alert.{alert.invariant}", alert)
    for at in await records.new_judgements(connection, map(_rounded_up, judge_at.values())):
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
    await records.end_judgement(connection, int(at.timestamp()))
    orders = await _orders(connection, await records.overdue(connection, at.timestamp()))
    await records.set_unsettled(connection, {}, [order.order_id for order in orders])
    return [alert for order in orders for alert in order.gaps()]


def _judge_at(order: Order, now: dt.datetime) -> float:
    return max(order.deadline or 0.0, now.timestamp()) + GRACE


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
