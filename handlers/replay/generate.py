"""Makes up a statement in the bank's format, always the same for the same seed.

It has what makes a real one hard: entries of a day in no order, a balance that the bank rounds to
0.10 after each entry while the amounts keep their last digit, fees and interest written as the
bank writes them, and accounts of very different activity.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from handlers.bank_format import FIELDS

DEFAULT_SEED = 1993
DEFAULT_ROWS = 5000
DEFAULT_ACCOUNTS = 150

FIRST_DAY = date(1993, 1, 1)
DAYS = 454
"""Up to 1994-03-30, as the real statement."""

DIME = Decimal("0.1")
CENT = Decimal("0.01")

MAX_DRIFT = Decimal("0.60")
"""Where the rounding of an account has led this far from the exact sum, the bank's next amounts
are whole dimes, which lead no further; so no account passes the 0.70 that counts as rounding."""

FEE = Decimal("14.60")
PENSION = Decimal("4318.00")
BANKS = ("AB", "CD", "EF", "GH", "IJ", "KL", "MN", "OP", "QR", "ST", "UV", "WX", "YZ")


@dataclass(slots=True)
class _Account:
    number: int
    opened: date
    household: Decimal
    partner: tuple[str, str]
    recorded: Decimal = Decimal("0.00")
    """The balance as the bank records it, rounded."""
    exact: Decimal = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class _Entry:
    type: str
    operation: str
    amount: Decimal
    k_symbol: str = ""
    partner: tuple[str, str] | None = None


def write_statement(
    path: Path,
    *,
    seed: int = DEFAULT_SEED,
    rows: int = DEFAULT_ROWS,
    accounts: int = DEFAULT_ACCOUNTS,
) -> None:
    """Write a statement to a file.

    :raises ValueError: `rows` is less than `accounts`, or either is less than 1
    :raises OSError: the file cannot be written
    """
    lines = statement_lines(seed=seed, rows=rows, accounts=accounts)
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def statement_lines(
    *, seed: int = DEFAULT_SEED, rows: int = DEFAULT_ROWS, accounts: int = DEFAULT_ACCOUNTS
) -> Iterator[str]:
    """Yield a statement's lines without their line breaks, the header first.

    :raises ValueError: `rows` is less than `accounts`, or either is less than 1
    """
    if not 1 <= accounts <= rows:
        raise ValueError(
            f"a statement has at least one row for each account: {rows} rows for {accounts}"
        )
    # Not for secrecy: the same seed has to give the same file.
    chance = random.Random(seed)
    return _lines(chance, rows, accounts)


def _lines(chance: random.Random, rows: int, accounts: int) -> Iterator[str]:
    yield ";".join(f'"{name}"' for name in FIELDS)
    people = _open_accounts(chance, accounts)
    numbers = chance.sample(range(1, max(4_000_000, rows * 4)), rows)
    produced = 0
    for day, active in _calendar(chance, people, rows):
        lines = []
        for account in active:
            entry = _next_entry(chance, account, day)
            balance = _record(account, entry)
            lines.append(_line(numbers[produced], account, day, entry, balance))
            produced += 1
        # The real file records no order within a day.
        chance.shuffle(lines)
        yield from lines


def _open_accounts(chance: random.Random, count: int) -> list[_Account]:
    numbers = sorted(chance.sample(range(2, max(12_000, count * 20), 2), count))
    return [
        _Account(
            number=number,
            opened=FIRST_DAY + timedelta(days=int(DAYS * 0.8 * chance.random() ** 2)),
            household=Decimal(chance.randrange(500, 9000)),
            partner=(chance.choice(BANKS), str(chance.randrange(10**6, 10**8))),
        )
        for number in numbers
    ]


def _calendar(
    chance: random.Random, accounts: list[_Account], rows: int
) -> Iterator[tuple[date, list[_Account]]]:
    """Yield each day with the accounts that have an entry on it, one item an entry."""
    dates: dict[date, list[_Account]] = {}
    last = FIRST_DAY + timedelta(days=DAYS - 1)
    for account in accounts:
        dates.setdefault(account.opened, []).append(account)
    activity = [chance.uniform(0.3, 2.0) for _ in accounts]
    for account in chance.choices(accounts, activity, k=rows - len(accounts)):
        day = account.opened + timedelta(days=chance.randint(1, (last - account.opened).days))
        if chance.random() < 0.4:
            day = min(_month_end(day), last)
        dates.setdefault(day, []).append(account)
    for day in sorted(dates):
        yield day, dates[day]


def _month_end(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def _next_entry(chance: random.Random, account: _Account, day: date) -> _Entry:
    if not account.recorded:
        return _Entry("PRIJEM", "VKLAD", Decimal(chance.randrange(2, 12) * 100))
    if account.recorded < 0:
        penalty = _precise(account, -account.recorded * Decimal("0.01"))
        return (
            _Entry("VYDAJ", "VYBER", penalty, "SANKC. UROK")
            if chance.random() < 0.3
            else _Entry("PRIJEM", "VKLAD", Decimal(chance.randrange(500, 9000)))
        )
    if day == _month_end(day):
        interest = _precise(account, account.recorded * Decimal("0.004"))
        return (
            _Entry("VYDAJ", "VYBER", FEE, "SLUZBY")
            if chance.random() < 0.35
            else _Entry("PRIJEM", "", interest, "UROK")
        )
    return _everyday_entry(chance, account)


def _everyday_entry(chance: random.Random, account: _Account) -> _Entry:
    kind = chance.random()
    # Now and then more than there is: accounts are overdrawn in the real file too.
    share = Decimal(chance.randrange(5, 96)) / 100
    takes = max((account.recorded * share).quantize(Decimal("1E2")), Decimal(100))
    if kind < 0.30:
        return _Entry("PRIJEM", "VKLAD", Decimal(chance.randrange(200, 50_000)))
    if kind < 0.40:
        k_symbol = chance.choice(("", "DUCHOD"))
        return _Entry("PRIJEM", "PREVOD Z UCTU", PENSION, k_symbol, account.partner)
    if kind < 0.55 and account.household < account.recorded:
        k_symbol = chance.choice(("SIPO", "SIPO", "POJISTNE", "UVER", " "))
        return _Entry("VYDAJ", "PREVOD NA UCET", account.household, k_symbol, account.partner)
    if kind < 0.58:
        return _Entry("VYBER", "VYBER", takes)
    if kind < 0.60:
        return _Entry("VYDAJ", "VYBER KARTOU", takes)
    return _Entry("VYDAJ", "VYBER", takes)


def _precise(account: _Account, amount: Decimal) -> Decimal:
    """Round interest to its last digit, or to a dime where that would lead too far away."""
    # Every third account gets whole dimes, and so agrees with the bank to the last digit.
    unit = CENT if account.number % 3 else DIME
    precise = max(amount.quantize(unit, ROUND_HALF_UP), unit)
    if abs(account.exact - account.recorded) > MAX_DRIFT - DIME / 2:
        precise = max(precise.quantize(DIME, ROUND_HALF_UP), DIME)
    return precise


def _record(account: _Account, entry: _Entry) -> Decimal:
    signed = entry.amount if entry.type == "PRIJEM" else -entry.amount
    account.exact += signed
    account.recorded = (account.recorded + signed).quantize(DIME, ROUND_HALF_UP).quantize(CENT)
    return account.recorded


def _line(number: int, account: _Account, day: date, entry: _Entry, balance: Decimal) -> str:
    partner = ";" if entry.partner is None else '"{}";"{}"'.format(*entry.partner)
    return (
        f"{number};{account.number};{day:%y%m%d};"
        f'"{entry.type}";"{entry.operation}";{entry.amount:.2f};{balance:.2f};'
        f'"{entry.k_symbol}";{partner}'
    )
