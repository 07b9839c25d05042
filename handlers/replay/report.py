"""Reports the figures of a replay, as a table for a person or as one JSON object for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from handlers.replay.reconcile import ROUNDING, Agreement, Reconciliation

SHOWN = 20
"""Rejected rows, and accounts that are off, that the table lists; it counts the others."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was dead-lettered; line 0 where only the ledger knows which."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one replay."""

    rows: int
    published: int
    """Rows whose entry the statements service published."""
    posted: int
    """Entries that this run added to the ledger."""
    already_posted: int
    """Rows whose entry was there before; of two alike in one file, the second."""
    rejections: tuple[Rejection, ...]
    reconciliation: Reconciliation
    balanced: bool
    """Debits equal credits, over the whole ledger and in each transaction."""
    seconds: float
    """From the first row's publish to the last entry on the disk."""
    broker: str

    @property
    def reconciles(self) -> bool:
        """Whether every row is in the ledger, every account agrees, and both sides are equal."""
        return (
            not self.rejections
            and not self.reconciliation.off
            and self.balanced
            and self.posted + self.already_posted == self.rows
        )

    @property
    def rows_per_second(self) -> float:
        """How many rows went through both services in a second."""
        return round(self.rows / self.seconds, 1) if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the figures under the names that programs know them by."""
        agreed = self.reconciliation
        return {
            "rows": self.rows,
            "published": self.published,
            "posted": self.posted,
            "already_posted": self.already_posted,
            "rejected": len(self.rejections),
            "rejections": [{"line": r.line, "reason": r.reason} for r in self.rejections],
            "accounts": len(agreed.accounts),
            "exact": agreed.count(Agreement.EXACT),
            "within_rounding": agreed.count(Agreement.WITHIN_ROUNDING),
            "off": agreed.count(Agreement.OFF),
            "total": f"{agreed.total:.2f}",
            "balanced": self.balanced,
            "rows_per_second": self.rows_per_second,
            "broker": self.broker,
        }


def print_report(report: Report, console: Console) -> None:
    """Print the table, and below it what is wrong, if anything is."""
    figures = report.as_json()
    table = Table(title="Replay", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for label, value in (
        ("rows read", f"{report.rows:,}"),
        ("published", f"{report.published:,}"),
        ("posted", f"{report.posted:,}"),
        ("already posted", f"{report.already_posted:,}"),
        ("rejected", f"{len(report.rejections):,}"),
        ("accounts", f"{figures['accounts']:,}"),
        ("agree to the last digit", f"{figures['exact']:,}"),
        (f"agree within the bank's rounding ({ROUNDING})", f"{figures['within_rounding']:,}"),
        ("do not agree", f"{figures['off']:,}"),
        ("sum of balances", f"{report.reconciliation.total:,.2f}"),
        ("debits equal credits", "yes" if report.balanced else "NO"),
        ("rows a second", f"{report.rows_per_second:,.0f}"),
        ("broker", report.broker),
    ):
        table.add_row(label, value)
    console.print(table)
    rejections = [f"line {r.line}: {r.reason}" if r.line else r.reason for r in report.rejections]
    _list(console, "rejected and dead-lettered", rejections)
    _list(
        console,
        "accounts that do not agree",
        [
            f"account {a.account_id}: {a.ledger:.2f} in the ledger, {a.recorded:.2f} at the bank"
            for a in report.reconciliation.off
        ],
    )
    console.print("Everything reconciles." if report.reconciles else "It does NOT reconcile.")


def _list(console: Console, title: str, lines: list[str]) -> None:
    if not lines:
        return
    console.print(f"{title}:")
    for line in lines[:SHOWN]:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if len(lines) > SHOWN:
        console.print(f"  and {len(lines) - SHOWN} more; --json lists them all")
