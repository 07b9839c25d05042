"""Reports what came of a demo, as a table for a person or as one JSON object for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from handlers.demo.audit import SHOWN, Books, Check
from handlers.messages import Currency


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one demo."""

    orders: int
    seconds: float
    """From the first order's publish to the last one's end, and that of its refunds."""
    ends: Mapping[str, int]
    """How many orders ended how; those that were planned to be refused, by why."""
    refunds: Mapping[str, int]
    copies: int
    bad: int
    """Messages that were sent and were no orders and no refunds."""
    dead_letters: Mapping[str, int]
    """By queue."""
    killed: tuple[str, ...]
    books: Books
    checks: tuple[Check, ...]
    events: int
    """How many events the monitoring service heard of, copies left out."""

    @property
    def adds_up(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    @property
    def orders_per_second(self) -> float:
        """How many orders came to their end in a second."""
        return round(self.orders / self.seconds, 1) if self.seconds else 0.0

    def money(self) -> dict[str, Mapping[str, Decimal]]:
        """Return the sums of money by what they are, each by currency."""
        books = self.books
        return {
            "deposits": books.deposits,
            "paid by orders": books.executed,
            "paid back by refunds": books.refunded,
            "fees": books.fees,
            "interest": books.interest,
            "balances": books.balances,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the figures under the names that programs know them by."""
        return {
            "orders": self.orders,
            "seconds": round(self.seconds, 2),
            "orders_per_second": self.orders_per_second,
            "ends": dict(self.ends),
            "refunds": dict(self.refunds),
            "copies": self.copies,
            "bad_messages": self.bad,
            "dead_letters": dict(self.dead_letters),
            "killed": list(self.killed),
            "retried": dict(self.books.retried),
            "events": self.events,
            "money": {
                what: {currency: f"{amount:.2f}" for currency, amount in sorted(sums.items())}
                for what, sums in self.money().items()
            },
            "checks": [
                {"what": check.what, "holds": check.holds, "wrong": list(check.wrong)}
                for check in self.checks
            ],
            "adds_up": self.adds_up,
        }


def print_report(report: Report, console: Console) -> None:
    """Print the tables, and below them what does not hold, if anything does not."""
    console.print(_figures(report))
    console.print(_money(report))
    table = Table(title="Invariants", show_header=False, title_justify="left")
    for check in report.checks:
        table.add_row(check.what, "holds" if check.holds else "BROKEN")
    console.print(table)
    for check in report.checks:
        if not check.holds:
            console.print(f"{check.what}:")
        for line in check.wrong[:SHOWN]:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        if len(check.wrong) > SHOWN:
            console.print(f"  and {len(check.wrong) - SHOWN} more; --json lists them all")
    console.print("Everything adds up." if report.adds_up else "It does NOT add up.")


def _figures(report: Report) -> Table:
    table = Table(title="Orders", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("orders", f"{report.orders:,}")
    for end, number in report.ends.items():
        table.add_row(f"  {end}", f"{number:,}")
    for end, number in report.refunds.items():
        table.add_row(f"refunds {end}", f"{number:,}")
    table.add_row("orders sent twice", f"{report.copies:,}")
    table.add_row("bad messages", f"{report.bad:,}")
    for queue, number in report.dead_letters.items():
        table.add_row(f"  dead-lettered from {queue}", f"{number:,}")
    for name, times in Counter(report.killed).items():
        table.add_row(f"killed (SIGKILL): {name}", f"{times:,}")
    for name, number in report.books.retried.items():
        if number:
            table.add_row(f"messages retried by {name}", f"{number:,}")
    table.add_row("events monitored", f"{report.events:,}")
    table.add_row("orders a second", f"{report.orders_per_second:,.0f}")
    return table


def _money(report: Report) -> Table:
    table = Table(title="Money", title_justify="left")
    table.add_column()
    for currency in Currency:
        table.add_column(currency, justify="right")
    for what, sums in report.money().items():
        figures = [sums.get(currency, Decimal(0)) for currency in Currency]
        table.add_row(what, *(f"{figure:,.2f}" for figure in figures))
    return table
