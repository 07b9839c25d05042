"""Rows of a statement, read."""

from __future__ import annotations

import contextlib
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.bank_format import RowError, StandingOrder, parse_order, parse_row, row_account
from handlers.events import Direction, EntryRecorded

GOOD = b'695247;2378;930101;"PRIJEM";"VKLAD";700.00;700.00;"";;'


def changed(column: int, value: str) -> bytes:
    """The good row with one field replaced."""
    fields = GOOD.decode().split(";")
    fields[column] = value
    return ";".join(fields).encode()


def test_a_row_becomes_an_entry() -> None:
    """Every field of the bank's row is in the entry, in its own type."""
    entry = parse_row(
        b'1;2;931231;"VYDAJ";"PREVOD NA UCET";3372.70;-12.30;"UVER";"ST";"89597016"\r\n',
    )
    assert entry == EntryRecorded(
        transaction_id=1,
        account_id=2,
        date=date(1993, 12, 31),
        direction=Direction.DEBIT,
        operation="PREVOD NA UCET",
        amount=Decimal("3372.70"),
        balance_after=Decimal("-12.30"),
        k_symbol="UVER",
        partner_bank="ST",
        partner_account="89597016",
    )
    assert entry.signed_amount == Decimal("-3372.70")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"", "0 fields instead of 10"),
        (b"1;2;3", "3 fields instead of 10"),
        (GOOD + b";", "11 fields instead of 10"),
        (changed(0, "x"), "trans_id 'x' is not a whole number"),
        (changed(0, "-1"), "trans_id '-1' is not a whole number"),
        (changed(1, str(2**63)), "is not a whole number from 0 to"),
        (changed(2, "930231"), "date '930231' is not a date"),
        (changed(2, "93-1-1"), "is not a date"),
        (changed(3, '"KREDIT"'), "type 'KREDIT' is not one of PRIJEM"),
        (changed(5, "abc"), "amount 'abc' is not an amount"),
        (changed(5, "nan"), "is not an amount"),
        (changed(5, "1e5"), "is not an amount"),
        (changed(5, "-5.00"), "is not an amount"),
        (changed(5, "1.005"), "is not an amount"),
        (changed(5, "0.00"), "is not more than zero"),
        (changed(6, ""), "balance '' is not an amount"),
        (b'1;2;930101;"PRIJEM";"VKLAD', "quotes or separators"),
        (b"\xff" + GOOD, "byte 1 of the row is not UTF-8"),
    ],
)
def test_a_malformed_row_is_explained(row: bytes, words: str) -> None:
    """The error names the field and its value."""
    with pytest.raises(RowError) as caught:
        parse_row(row)
    assert words in str(caught.value)


@given(
    number=st.integers(0, 2**63 - 1),
    day=st.dates(date(1900, 1, 1), date(1999, 12, 31)),
    minor=st.integers(1, 10**14),
    balance=st.integers(-(10**14), 10**14),
    text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), max_size=100),
)
def test_what_is_written_in_the_banks_format_is_read_back(
    number: int, day: date, minor: int, balance: int, text: str
) -> None:
    """No digit of an amount is lost, whatever its size, and no letter of a text."""
    amount, after = Decimal(minor).scaleb(-2), Decimal(balance).scaleb(-2)
    quoted = text.replace('"', '""')
    row = f'{number};1;{day:%y%m%d};"PRIJEM";"{quoted}";{amount:.2f};{after:.2f};"";;'
    entry = parse_row(row.encode())
    assert (entry.transaction_id, entry.date) == (number, day)
    assert (entry.amount, entry.balance_after, entry.operation) == (amount, after, text)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_an_error(row: bytes) -> None:
    """Nothing but RowError comes out of a row that is not one."""
    with contextlib.suppress(RowError):
        assert isinstance(parse_row(row), EntryRecorded)


def spelled(account: int, zeros: int, *, quoted: bool) -> bytes:
    """The good row, of another account, written in one of the ways in which it may be."""
    digits = f"{account:0{len(str(account)) + zeros}}"
    return changed(1, f'"{digits}"' if quoted else digits)


@given(
    accounts=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    zeros=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    quoted=st.tuples(st.booleans(), st.booleans()),
)
def test_rows_are_ordered_by_their_account_however_it_is_written(
    accounts: tuple[int, int], zeros: tuple[int, int], quoted: tuple[bool, bool]
) -> None:
    """Two well-formed rows have one key exactly where they are of one account."""
    one, other = (
        spelled(account, more, quoted=marks)
        for account, more, marks in zip(accounts, zeros, quoted, strict=True)
    )
    assert (parse_row(one).account_id, parse_row(other).account_id) == accounts
    assert (row_account(one) == row_account(other)) == (accounts[0] == accounts[1])


@given(st.binary(max_size=80) | st.text(alphabet='0123456789;"\r\n', max_size=80).map(str.encode))
def test_any_bytes_have_a_place_in_the_order(row: bytes) -> None:
    """What a malformed row is ordered by is had without an error, so that it is refused by name."""
    hash(row_account(row))


GOOD_ORDER = '29402;2;"ST";"89597016";3372.70;"UVER"'


def changed_order(column: int, value: str) -> bytes:
    """The good standing order with one field replaced."""
    fields = GOOD_ORDER.split(";")
    fields[column] = value
    return ";".join(fields).encode()


def test_a_row_becomes_a_standing_order() -> None:
    """Every field of the bank's row is in it, in its own type; a blank symbol is none."""
    expected = StandingOrder(29402, 2, "ST", "89597016", Decimal("3372.70"), "UVER")
    assert parse_order(GOOD_ORDER.encode() + b"\r\n") == expected
    assert parse_order(changed_order(5, '" "')).k_symbol == ""


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (0, "x", "order_id 'x' is not a whole number"),
        (0, "-1", "order_id '-1' is not a whole number"),
        (1, "9" * 19, "account_id"),
        (1, "", "account_id '' is not a whole number"),
        (2, '""', "bank_to is empty"),
        (2, '" "', "bank_to is empty"),
        (3, '""', "account_to is empty"),
        (3, f'"{"9" * 101}"', "account_to '9999"),
        (4, "-5.00", "amount '-5.00' is not an amount"),
        (4, "0.00", "amount '0.00' is not more than zero"),
        (4, "1.234", "amount '1.234' is not an amount"),
        (4, "1" * 20, "is not an amount"),
        (4, "1e3", "amount '1e3' is not an amount"),
        (4, "NaN", "amount 'NaN' is not an amount"),
        (5, '"a";"b"', "7 fields instead of 6"),
        (5, '"a', "the row's quotes or separators do not fit"),
    ],
)
def test_a_row_that_is_no_standing_order_is_refused(column: int, value: str, words: str) -> None:
    """The reason names the field and what stands there."""
    with pytest.raises(RowError) as caught:
        parse_order(changed_order(column, value))
    assert words in str(caught.value)


@given(st.binary(max_size=80))
def test_no_bytes_fail_otherwise_than_as_a_row(data: bytes) -> None:
    """Whatever a line has, it is an order or a row error."""
    with contextlib.suppress(RowError):
        parse_order(data)
