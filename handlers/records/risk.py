"""What the risk service keeps: limits, refused partners, and each check with its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    MetaData,
    Row,
    String,
    Table,
    and_,
    func,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.schema import Money
from handlers.messages import CheckRisk, Partner, RefusePartner, RiskAnswered, SetRiskLimit
from handlers.records.inserting import insert_into

metadata = MetaData()

limits = Table(
    "risk_limit",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("most_per_order", Money, nullable=False),
    Column("most_orders", BigInteger, nullable=False),
    Column("window", Double, nullable=False),
)

refused_partners = Table(
    "risk_refused_partner",
    metadata,
    Column("bank", String, primary_key=True),
    Column("account", String, primary_key=True),
    Column("reason", String, nullable=False),
)

checks = Table(
    "risk_check",
    metadata,
    # For ever: the same order is asked about twice, and counts once.
    Column("order_id", String, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount", Money, nullable=False),
    Column("bank", String, nullable=False),
    Column("account", String, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("reason", String, nullable=False),
    # Seconds since 1970, so that a window is subtracted alike in both databases.
    Column("checked_at", Double, nullable=False),
)

Index("risk_check_velocity", checks.c.account_id, checks.c.currency, checks.c.checked_at)

Account = tuple[int, str]
"""An account's number and currency."""

TURN = 0x7269736B
"""The number of the advisory lock under which checks are answered."""


async def take_turn(connection: AsyncConnection) -> None:
    """Wait for other transactions that answer checks: they count each other's orders.

    On SQLite that is so already, as it has one writer at a time.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({TURN})"))


async def find_answered(
    connection: AsyncConnection, batch: Iterable[CheckRisk]
) -> dict[str, tuple[CheckRisk, RiskAnswered]]:
    """Return what was asked and answered of the orders in a batch before, by order."""
    ids = {check.order_id for check in batch}
    found = await connection.execute(select(checks).where(checks.c.order_id.in_(ids)))
    return {row.order_id: (_asked(row), _answer(row)) for row in found}


def _asked(row: Row[Any]) -> CheckRisk:
    return CheckRisk(
        order_id=row.order_id,
        account_id=row.account_id,
        partner=Partner(bank=row.bank, account=row.account),
        amount=row.amount,
        currency=row.currency,
    )


def _answer(row: Row[Any]) -> RiskAnswered:
    return RiskAnswered(order_id=row.order_id, passed=row.passed, reason=row.reason)


async def find_limits(
    connection: AsyncConnection, accounts: Iterable[Account]
) -> dict[Account, SetRiskLimit]:
    """Return the limits that were set for accounts; one without a limit has no item."""
    key = tuple_(limits.c.account_id, limits.c.currency)
    found = await connection.execute(select(limits).where(key.in_(set(accounts))))
    return {
        (row["account_id"], row["currency"]): SetRiskLimit.model_validate(dict(row))
        for row in found.mappings()
    }


async def set_limit(connection: AsyncConnection, limit: SetRiskLimit) -> None:
    """Set an account's limit, in the place of an earlier one."""
    values = limit.model_dump() | {"currency": str(limit.currency)}
    changed = {name: values[name] for name in ("most_per_order", "most_orders", "window")}
    key = [limits.c.account_id, limits.c.currency]
    statement = insert_into(connection, limits).values(values)
    await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed))


async def find_refused(
    connection: AsyncConnection, partners: Iterable[Partner]
) -> dict[Partner, str]:
    """Return why partners are refused; one who is not has no item."""
    key = tuple_(refused_partners.c.bank, refused_partners.c.account)
    wanted = {(partner.bank, partner.account) for partner in partners}
    found = await connection.execute(select(refused_partners).where(key.in_(wanted)))
    return {Partner(bank=row.bank, account=row.account): row.reason for row in found}


async def refuse_partner(connection: AsyncConnection, refused: RefusePartner) -> None:
    """Refuse a partner from now on; the last reason is kept."""
    values = {**refused.partner.model_dump(), "reason": refused.reason}
    key = [refused_partners.c.bank, refused_partners.c.account]
    statement = insert_into(connection, refused_partners).values(values)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_={"reason": refused.reason})
    )


async def count_passed(
    connection: AsyncConnection, accounts: Iterable[Account], *, now: float, window: float
) -> Counter[Account]:
    """Count the orders of accounts that passed within their window before `now`.

    :param window: seconds, for an account without a limit of its own
    """
    account = (checks.c.account_id, checks.c.currency)
    same = and_(account[0] == limits.c.account_id, account[1] == limits.c.currency)
    query = (
        select(*account, func.count())
        .select_from(checks.outerjoin(limits, same))
        .where(
            tuple_(*account).in_(set(accounts)),
            checks.c.passed,
            checks.c.checked_at > now - func.coalesce(limits.c.window, window),
        )
        .group_by(*account)
    )
    return Counter({(id_, cur): n for id_, cur, n in await connection.execute(query)})


async def keep(
    connection: AsyncConnection, answers: Sequence[tuple[CheckRisk, RiskAnswered]], *, now: float
) -> None:
    """Keep checks with their answers."""
    if not answers:
        return
    rows = [
        {
            "order_id": check.order_id,
            "account_id": check.account_id,
            "currency": str(check.currency),
            "amount": check.amount,
            "bank": check.partner.bank,
            "account": check.partner.account,
            "passed": answer.passed,
            "reason": answer.reason,
            "checked_at": now,
        }
        for check, answer in answers
    ]
    await connection.execute(checks.insert(), rows)
