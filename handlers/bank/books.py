"""Compares each account with its statement and what its orders have paid, to the last digit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from handlers.accounting.audit import problems
from handlers.accounting.double_entry import customer_account
from handlers.accounting.reading import open_ledger
from handlers.accounting.rules import ZERO
from handlers.messages import Currency, OrderExecuted, OrderRefused
from handlers.replay.report import Report as Replayed
from mqkit.store import Store

End = OrderExecuted | OrderRefused

_NUMBER = re.compile(r"-?\d[\d.]*")


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run."""

    statement: Replayed
    """As the accounts agreed with the bank before the first order."""
    placed: int
    bad_rows: int
    ends: Mapping[str, int]
    """How many orders had each end; of those that were refused, for each reason."""
    compensated: int
    paid: Decimal
    total: Decimal
    """The sum of the accounts' balances after the last order."""
    wrong: tuple[str, ...]
    """Whatever does not add up."""
    dead: Mapping[str, int]
    """Dead letters, by the queue that they are from."""
    seconds: float
    """From the first order's publish to the last one's end."""

    @property
    def adds_up(self) -> bool:
        """Whether the statement reconciles, each order has an end, and each account agrees."""
        return self.statement.reconciles and not (self.wrong or self.dead or self.bad_rows)

    def as_json(self) -> dict[str, Any]:
        """Return the figures under the names that programs know them by."""
        return {
            "statement": self.statement.as_json(),
            "orders": self.placed,
            "bad_rows": self.bad_rows,
            "ends": dict(self.ends),
            "compensated": self.compensated,
            "paid": f"{self.paid:.2f}",
            "total": f"{self.total:.2f}",
            "wrong": list(self.wrong),
            "dead_letters": dict(self.dead),
            "seconds": round(self.seconds, 1),
            "orders_per_second": round(self.placed / self.seconds, 1) if self.seconds else 0.0,
            "adds_up": self.adds_up,
        }


def counted(ends: Mapping[str, End]) -> dict[str, int]:
    """Count orders by their ends; reasons that differ in their numbers are one."""
    found = Counter(
        "executed" if isinstance(end, OrderExecuted) else f"refused: {_NUMBER.sub('N', end.reason)}"
        for end in ends.values()
    )
    return dict(found.most_common())


def paid_by_account(ends: Mapping[str, End]) -> dict[int, Decimal]:
    """Sum what each account has paid."""
    sums: dict[int, Decimal] = {}
    for end in ends.values():
        if isinstance(end, OrderExecuted):
            sums[end.account_id] = sums.get(end.account_id, ZERO) + end.amount
    return sums


async def read_books(
    ledger_url: str, statement: Replayed, ends: Mapping[str, End]
) -> tuple[Decimal, list[str]]:
    """Return the sum of the accounts' balances, and what is wrong with each account.

    An account's balance must be its statement's, less what its orders paid; nothing may be held,
    no order may have taken it below zero, and the ledger must add up in itself.
    """
    before = {each.account_id: each.ledger for each in statement.reconciliation.accounts}
    paid = paid_by_account(ends)
    total, wrong = ZERO, []
    async with open_ledger(ledger_url) as ledger:
        for account_id in sorted({*before, *(end.account_id for end in ends.values())}):
            account = await ledger.account(account_id, Currency.CZK)
            total += account.balance
            expected = before.get(account_id, ZERO) - paid.get(account_id, ZERO)
            name = customer_account(account_id)
            if account.balance != expected:
                wrong.append(f"{name} has {account.balance}, and should have {expected}")
            if account.held:
                wrong.append(f"{name} has {account.held} held")
            if account.balance < 0 and account_id in paid:
                wrong.append(f"{name} was overdrawn to {account.balance}")
    async with Store(ledger_url, relay=False) as store, store.transaction() as transaction:
        wrong += [each async for each in problems(transaction.connection)]
    return total, wrong
