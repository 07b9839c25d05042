"""What the risk service keeps: limits, refused partners, and each check with its answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.accounting.schema import Money
from handlers.messages import (
    CheckRisk,
    Currency,
    Partner,
    RefusePartner,
    RiskAnswered,
    SetRiskLimit,
)
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

# Has all that counting an account's orders asks for, so that their rows are not read.
Index(
    "risk_check_velocity",
    checks.c.account_id,
    checks.c.passed,
    checks.c.checked_at,
    checks.c.currency,
)

Account = tuple[int, Currency]
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
    """Return the limits that were set for accounts, at least: one without a limit has no item."""
    ids = {account_id for account_id, _ in accounts}
    found = await connection.execute(select(limits).where(limits.c.account_id.in_(ids)))
    return {
        (row["account_id"], Currency(row["currency"])): SetRiskLimit.model_validate(dict(row))
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
    """Return why partners are refused, at least: one who is not has no item."""
    wanted = {(partner.bank, partner.account) for partner in partners}
    query = select(refused_partners).where(
        refused_partners.c.bank.in_({bank for bank, _ in wanted}),
        refused_partners.c.account.in_({account for _, account in wanted}),
    )
    found = await connection.execute(query)
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
    connection: AsyncConnection, windows: Mapping[Account, float], *, now: float
) -> Counter[Account]:
    """Count the orders of accounts that passed before `now`, each within its window in seconds."""
    alike = defaultdict[float, set[int]](set)
    for (account_id, _), window in windows.items():
        alike[window].add(account_id)
    passed = Counter[Account]()
    account = (checks.c.account_id, checks.c.currency)
    for window, ids in alike.items():  # few: most accounts have the same one
        query = select(*account, func.count()).where(
            checks.c.account_id.in_(ids), checks.c.passed, checks.c.checked_at > now - window
        )
        for account_id, currency, count in await connection.execute(query.group_by(*account)):
            of = (account_id, Currency(currency))
            if windows.get(of) == window:
                passed[of] = count
    return passed


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
