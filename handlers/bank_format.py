"""Reads a row of a bank's statement, and of its standing orders.

The format is that of the PKDD'99 Discovery Challenge's financial data set: `;` between fields,
strings in double quotes, dates as YYMMDD (all of them 19YY), one entry a line.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pydantic import ValidationError

from handlers.events import MAX_DIGITS, MAX_ID, MAX_TEXT, Direction, EntryRecorded

FIELDS = (
    "trans_id",
    "account_id",
    "date",
    "type",
    "operation",
    "amount",
    "balance",
    "k_symbol",
    "bank",
    "account",
)
"""The columns of a statement, in the file's order."""

ORDER_FIELDS = ("order_id", "account_id", "bank_to", "account_to", "amount", "k_symbol")
"""The columns of a file of standing orders, in its order."""

DIRECTIONS = {
    "PRIJEM": Direction.CREDIT,
    "VYDAJ": Direction.DEBIT,
    "VYBER": Direction.DEBIT,
}
"""The bank's word in the column `type`: it uses two for a debit."""

_SHOWN = 40
"""How many characters of a wrong value an error shows."""

_DATE = re.compile(r"[0-9]{6}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_AMOUNT = re.compile(rf"[0-9]{{1,{MAX_DIGITS - 2}}}(\.[0-9]{{1,2}})?", re.ASCII)
_BALANCE = re.compile(rf"-?{_AMOUNT.pattern}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StandingOrder:
    """A row of a file of standing orders."""

    order_id: int
    account_id: int
    bank_to: str
    account_to: str
    amount: Decimal
    k_symbol: str
    """The bank's word for what it is for (UVER, SIPO ...); empty for none."""


class RowError(ValueError):
    """A row of a statement is malformed; the message names the field and its value."""


def parse_row(row: bytes) -> EntryRecorded:
    """Read one line of a statement, with or without its line break.

    :raises RowError: it is not a row of a statement
    """
    named = _named(row, FIELDS)
    if named["type"] not in DIRECTIONS:
        raise RowError(f"type {_quoted(named['type'])} is not one of {', '.join(DIRECTIONS)}")
    try:
        return EntryRecorded(
            transaction_id=_whole("trans_id", named["trans_id"]),
            account_id=_whole("account_id", named["account_id"]),
            date=_date("date", named["date"]),
            direction=DIRECTIONS[named["type"]],
            operation=_text("operation", named["operation"]),
            amount=_amount("amount", named["amount"]),
            balance_after=_balance("balance", named["balance"]),
            k_symbol=_text("k_symbol", named["k_symbol"]),
            partner_bank=_text("bank", named["bank"]),
            partner_account=_text("account", named["account"]),
        )
    except ValidationError as error:
        raise row_error(error) from None


def parse_order(row: bytes) -> StandingOrder:
    """Read one line of a file of standing orders, with or without its line break.

    :raises RowError: it is not a row of such a file
    """
    named = _named(row, ORDER_FIELDS)
    return StandingOrder(
        order_id=_whole("order_id", named["order_id"]),
        account_id=_whole("account_id", named["account_id"]),
        bank_to=_filled("bank_to", named["bank_to"]),
        account_to=_filled("account_to", named["account_to"]),
        amount=_amount("amount", named["amount"]),
        k_symbol=_text("k_symbol", named["k_symbol"]),
    )


def _named(row: bytes, names: tuple[str, ...]) -> dict[str, str]:
    """Split one line into its fields, by the names of their columns."""
    fields = split_row(row)
    if len(fields) != len(names):
        counted = f"{len(fields)} field" + ("" if len(fields) == 1 else "s")
        raise RowError(f"{counted} instead of {len(names)}")
    return dict(zip(names, fields, strict=True))


def row_error(error: ValidationError) -> RowError:
    """Say of a row what is wrong with what was made of it, without quoting it."""
    first = error.errors(include_url=False, include_context=False)[0]
    return RowError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def split_row(row: bytes) -> list[str]:
    """Split one line into its fields, unquoted.

    :raises RowError: it is not UTF-8, or its quotes do not pair
    """
    try:
        text = row.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise RowError(f"byte {error.start + 1} of the row is not UTF-8") from error
    try:
        rows = list(csv.reader([text], delimiter=";", strict=True))
    except csv.Error as error:
        raise RowError(f"the row's quotes or separators do not fit: {error}") from error
    return rows[0] if rows else []


def row_account(row: bytes) -> bytes | None:
    """Return what a row is ordered by: its account's digits, without quotes or leading zeros.

    Well-formed rows have the same one if they are of the same account, and only then. It is cheap
    and raises nothing: what a malformed row has in that place does not matter, as it is refused.
    """
    fields = row.split(b";", 2)
    return fields[1].strip(b'"').lstrip(b"0") if len(fields) > 1 else None


def _quoted(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")


def _whole(name: str, value: str) -> int:
    if not _WHOLE.fullmatch(value) or int(value) > MAX_ID:
        raise RowError(f"{name} {_quoted(value)} is not a whole number from 0 to {MAX_ID}")
    return int(value)


def _date(name: str, value: str) -> date:
    try:
        if _DATE.fullmatch(value):
            return date(1900 + int(value[:2]), int(value[2:4]), int(value[4:]))
    except ValueError:
        pass
    raise RowError(f"{name} {_quoted(value)} is not a date written YYMMDD")


def _amount(name: str, value: str) -> Decimal:
    if not _AMOUNT.fullmatch(value):
        raise RowError(f"{name} {_quoted(value)} is not an amount")
    amount = Decimal(value)
    if not amount:
        raise RowError(f"{name} {_quoted(value)} is not more than zero")
    return amount


def _balance(name: str, value: str) -> Decimal:
    if not _BALANCE.fullmatch(value):
        raise RowError(f"{name} {_quoted(value)} is not an amount")
    return Decimal(value)


def _text(name: str, value: str) -> str:
    # The bank fills some empty fields with a blank.
    value = value.strip()
    if len(value) > MAX_TEXT:
        raise RowError(f"{name} {_quoted(value)} is over {MAX_TEXT} characters long")
    return value


def _filled(name: str, value: str) -> str:
    text = _text(name, value)
    if not text:
        raise RowError(f"{name} is empty")
    return text
