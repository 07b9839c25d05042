"""What the monitoring service keeps: facts, sums that grow with them, and the alerts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Insert,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.schema import Money
from handlers.invariants import Fact, Kind, Sums
from handlers.messages import Alert, Count, Currency, Totals
from handlers.records.inserting import insert_into

LOOKUP_SIZE = 500
"""Keys in one `IN (...)`; SQLite allows 999 parameters in its older builds."""

LATEST_ALERTS = 10

metadata = MetaData()

facts = Table(
    "monitoring_fact",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("key", String, nullable=False),
    Column("order_id", String, index=True),
    Column("account_id", BigInteger),
    Column("amount", Money, nullable=False),
    Column("currency", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("content", String, nullable=False),
    Column("deadline", Double),
)

unsettled = Table(
    "monitoring_unsettled",
    metadata,
    Column("order_id", String, primary_key=True),
    # Both in seconds since 1970.
    Column("judge_at", Double, nullable=False, index=True),
    Column("late_at", Double, nullable=False),
)

judgements = Table(
    "monitoring_judgement",
    metadata,
    Column("at", BigInteger, primary_key=True, autoincrement=False),
)
"""The times for which a `JudgeOrders` is on its way."""

counts = Table(
    "monitoring_count",
    metadata,
    Column("kind", String, primary_key=True),
    Column("detail", String, primary_key=True),
    Column("currency", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("amount", Money, nullable=False),
)

accounts = Table(
    "monitoring_account",
    metadata,
    Column("account", String, primary_key=True),
    Column("currency", String, primary_key=True),
    Column("debits", Money, nullable=False),
    Column("credits", Money, nullable=False),
    Column("held", Money, nullable=False),
)

alerts = Table(
    "monitoring_alert",
    metadata,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    # One alert for what is wrong with one order, however often it is found to be wrong.
    Column("once", String, unique=True, nullable=False),
    Column("invariant", String, nullable=False),
    Column("about", String, nullable=False),
    Column("what", String, nullable=False),
)

_FACT = (*(column for column in facts.c if column.name != "id"),)


async def take_turn(connection: AsyncConnection) -> None:
    """Wait for another process that is just handing over; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("LOCK TABLE monitoring_fact IN EXCLUSIVE MODE"))


async def known_facts(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Fact]:
    """Return those of these facts that are known."""
    found: dict[str, Fact] = {}
    for some in _chunks(sorted(set(ids))):
        query = select(*_FACT).where(facts.c.id.in_(some))
        found |= {fact.id: fact for fact in map(_fact, await connection.execute(query))}
    return found


async def facts_of_orders(
    connection: AsyncConnection, order_ids: Iterable[str]
) -> dict[str, list[Fact]]:
    """Return all that is known of each of these orders."""
    wanted = sorted(set(order_ids))
    found: dict[str, list[Fact]] = {order_id: [] for order_id in wanted}
    for some in _chunks(wanted):
        query = select(*_FACT).where(facts.c.order_id.in_(some))
        for fact in map(_fact, await connection.execute(query)):
            found[fact.order_id or ""].append(fact)
    return found


def _fact(row: Any) -> Fact:
    kind, *others = row
    return Fact(Kind(kind), *others)


async def add_facts(connection: AsyncConnection, new: Sequence[Fact]) -> None:
    """Keep facts that are not known, and count them."""
    if not new:
        return
    rows = [
        {"id": fact.id, **{column.name: getattr(fact, column.name) for column in _FACT}}
        for fact in new
    ]
    await connection.execute(facts.insert(), rows)
    sums: dict[tuple[str, str, str], tuple[int, Decimal]] = {}
    for fact in new:
        key = (str(fact.kind), fact.detail, fact.currency)
        number, amount = sums.get(key, (0, Decimal("0.00")))
        sums[key] = (number + 1, amount + fact.amount)
    names = ("kind", "detail", "currency")
    await _add(
        connection,
        counts,
        [
            {**dict(zip(names, key, strict=True)), "number": number, "amount": amount}
            for key, (number, amount) in sums.items()
        ],
    )


async def add_to_accounts(
    connection: AsyncConnection,
    changes: Sums,
) -> None:
    """Add debits, credits and what is held to accounts, which are named by name and currency."""
    await _add(
        connection,
        accounts,
        [
            {"account": name, "currency": currency, "debits": d, "credits": c, "held": h}
            for (name, currency), (d, c, h) in sorted(changes.items())
        ],
    )


async def _add(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, or add their numbers to those of the rows that are there."""
    if not rows:
        return
    insert = insert_into(connection, table)
    added = {c.name: c + insert.excluded[c.name] for c in table.c if not c.primary_key}
    statement: Insert = insert.on_conflict_do_update(
        index_elements=list(table.primary_key.columns), set_=added
    )
    await connection.execute(statement, rows)


async def totals(connection: AsyncConnection) -> tuple[Totals, ...]:
    """Sum what was posted and what is held, in each currency."""
    columns = [func.sum(accounts.c[name]) for name in ("debits", "credits", "held")]
    query = select(accounts.c.currency, *columns).group_by(accounts.c.currency)
    rows = await connection.execute(query.order_by(accounts.c.currency))
    return tuple(
        Totals(currency=Currency(currency), debits=debits, credits=credits_, held=held)
        for currency, debits, credits_, held in rows
    )


async def all_counts(connection: AsyncConnection) -> tuple[Count, ...]:
    """Return how often what was seen, and how much money it was about."""
    rows = await connection.execute(
        select(counts).order_by(counts.c.kind, counts.c.detail, counts.c.currency)
    )
    return tuple(Count(**row) for row in rows.mappings())


async def set_unsettled(
    connection: AsyncConnection, waiting: Mapping[str, tuple[float, float]], settled: Iterable[str]
) -> None:
    """Note of which orders something has still to come, and of which nothing.

    :param waiting: when an order is judged next, and when all that is missing is too late
    """
    for some in _chunks(sorted(settled)):
        await connection.execute(delete(unsettled).where(unsettled.c.order_id.in_(some)))
    if waiting:
        insert = insert_into(connection, unsettled)
        statement = insert.on_conflict_do_update(
            index_elements=[unsettled.c.order_id],
            set_={name: insert.excluded[name] for name in ("judge_at", "late_at")},
        )
        rows = [
            {"order_id": order_id, "judge_at": at, "late_at": late}
            for order_id, (at, late) in waiting.items()
        ]
        await connection.execute(statement, rows)


async def overdue(connection: AsyncConnection, now: float) -> dict[str, float]:
    """Return the orders that are to be judged, and when what is missing of them is too late."""
    query = select(unsettled.c.order_id, unsettled.c.late_at).where(unsettled.c.judge_at <= now)
    return {row.order_id: row.late_at for row in await connection.execute(query)}


async def count_unsettled(connection: AsyncConnection) -> int:
    """Count the orders of which something has still to come."""
    query = select(func.count()).select_from(unsettled)
    return int((await connection.execute(query)).scalar_one())


async def new_judgements(connection: AsyncConnection, times: Iterable[int]) -> list[int]:
    """Note when orders are to be judged; returns the times that were not noted before."""
    wanted = sorted(set(times))
    query = select(judgements.c.at).where(judgements.c.at.in_(wanted[:LOOKUP_SIZE]))
    there = set((await connection.execute(query)).scalars()) if wanted else set()
    new = [at for at in wanted if at not in there]
    if new:
        statement = insert_into(connection, judgements).on_conflict_do_nothing()
        await connection.execute(statement, [{"at": at} for at in new])
    return new


async def end_judgement(connection: AsyncConnection, at: int) -> None:
    """Forget a time that has come."""
    await connection.execute(delete(judgements).where(judgements.c.at <= at))


async def add_alerts(connection: AsyncConnection, found: Iterable[Alert]) -> list[Alert]:
    """Keep alerts; returns those that are new."""
    by_id = {f"{alert.invariant}:{alert.about}": alert for alert in found}
    there: set[str] = set()
    for some in _chunks(sorted(by_id)):
        query = select(alerts.c.once).where(alerts.c.once.in_(some))
        there.update((await connection.execute(query)).scalars())
    new = {once: alert for once, alert in by_id.items() if once not in there}
    if new:
        rows = [{"once": once, **alert.model_dump(mode="json")} for once, alert in new.items()]
        await connection.execute(alerts.insert(), rows)
    return list(new.values())


async def count_alerts(connection: AsyncConnection) -> int:
    """Count the alerts."""
    query = select(func.count()).select_from(alerts)
    return int((await connection.execute(query)).scalar_one())


async def latest_alerts(connection: AsyncConnection) -> tuple[Alert, ...]:
    """Return the latest alerts, the oldest of them first."""
    columns = (alerts.c.invariant, alerts.c.about, alerts.c.what)
    query = select(*columns).order_by(alerts.c.id.desc()).limit(LATEST_ALERTS)
    rows = (await connection.execute(query)).mappings().all()
    return tuple(Alert(**row) for row in reversed(rows))


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), LOOKUP_SIZE):
        yield keys[start : start + LOOKUP_SIZE]
