"""A statement and its standing orders through all services: `python -m handlers bank`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from handlers.accounting.rules import Command, Kind
from handlers.bank.books import End, read_books
from handlers.messages import Currency, OrderExecuted, OrderRefused, Partner
from handlers.replay.generate import write_statement
from handlers.replay.reconcile import AccountResult, Agreement, Reconciliation
from handlers.replay.report import Report as Replayed
from tests import forked
from tests.unit.handlers.entries import NOW, carry_out, entry, post, writing

HEADER = '"order_id";"account_id";"bank_to";"account_to";"amount";"k_symbol"'
ROWS, ACCOUNTS = 300, 20


def bank(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, on the embedded broker unless it is told otherwise."""
    given = {name: value for name, value in os.environ.items() if name != "MQKIT_URL"}
    process = forked.Command(
        ["bank", *arguments],
        {**given, **environment},
        module="handlers",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def standing_orders(path: Path, *rows: str) -> str:
    path.write_text("\n".join([HEADER, *rows, ""]))
    return str(path)


@pytest.fixture
def statement(tmp_path: Path) -> str:
    path = tmp_path / "statement.csv"
    write_statement(path, rows=ROWS, accounts=ACCOUNTS)
    return str(path)


@pytest.mark.timeout(240)
def test_each_account_has_its_statement_less_what_its_orders_paid(
    statement: str, tmp_path: Path
) -> None:
    """Orders that cannot be paid are refused with a reason, and all of it adds up."""
    accounts = [row.split(";")[1] for row in Path(statement).read_text().splitlines()[1:]]
    rows = [f'{n};{account};"ST";"1";1.10;"SIPO"' for n, account in enumerate(accounts[:12])]
    rows += [f'{99};{accounts[0]};"ST";"1";99999.00;"SIPO"', '98;424242;"ST";"1";1.00;"SIPO"']
    orders = standing_orders(tmp_path / "orders.csv", *rows)
    done = bank(statement, orders, "--folder", str(tmp_path / "run"), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["statement"]["posted"] == ROWS
    assert found["ends"] == {
        "executed": 12,
        "refused: account N in CZK has N available, not N": 1,
        "refused: account N is not known in CZK": 1,
    }
    assert found["paid"] == "13.20"
    before, after = Decimal(found["statement"]["total"]), Decimal(found["total"])
    assert before - after == Decimal("13.20")


def test_what_is_missing_is_said_before_anything_runs(statement: str, tmp_path: Path) -> None:
    """A file that is no file of orders, and databases that would be one, end in one line."""
    folder = ("--folder", str(tmp_path / "run"))
    done = bank(statement, statement, *folder)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "is not a file of standing orders" in done.stderr
    orders = standing_orders(tmp_path / "orders.csv")
    done = bank(statement, orders, *folder, BANK_DATABASES="postgresql://u:planted-secret@h/one")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "has no {service}" in done.stderr
    assert "planted-secret" not in done.stderr


def replayed(balance: str) -> Replayed:
    """A statement of one account."""
    account = AccountResult(7, Agreement.EXACT, Decimal(balance), Decimal(balance))
    return Replayed(1, 1, 1, 0, (), Reconciliation((account,)), True, 1.0, "none")


ORDER: dict[str, Any] = {"account_id": 7, "amount": Decimal("4.00"), "currency": Currency.CZK}
EXECUTED = OrderExecuted(order_id="o", partner=Partner(bank="a", account="b"), **ORDER)
REFUSED = OrderRefused(order_id="o", reason="why", **ORDER)


@pytest.mark.parametrize(
    ("balance", "end", "upto", "wrong"),
    [
        ("10.00", EXECUTED, 3, []),
        ("10.00", REFUSED, 1, []),
        ("10.00", REFUSED, 2, ["customer:7 has 4.00 held"]),
        ("10.00", REFUSED, 3, ["customer:7 has 6.00, and should have 10.00"]),
        ("10.01", EXECUTED, 3, ["customer:7 has 6.00, and should have 6.01"]),
    ],
)
async def test_an_account_that_does_not_agree_is_named(
    database: str, balance: str, end: End, upto: int, wrong: list[str]
) -> None:
    """Its balance, or what is held on it, is not what the statement and its orders say."""
    hold = Command("hold-o", Kind.HOLD, 7, Decimal("4.00"), "CZK", "o")
    execute = Command("execute-o", Kind.EXECUTE, 7, order_id="o")
    async with writing(database) as connection:
        await post(connection, entry(1, "10.00"))
        for command in [hold, execute][: upto - 1]:
            await carry_out(connection, command, NOW)
    total, found = await read_books(database, replayed(balance), {"o": end})
    assert found == wrong
    assert total == (Decimal("6.00") if upto == 3 else Decimal("10.00"))
