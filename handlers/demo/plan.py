"""Makes up what customers do, always the same for the same seed, and what must become of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from handlers.messages import (
    Currency,
    Deposit,
    OpenAccount,
    Partner,
    PlaceOrder,
    RefusePartner,
    RequestRefund,
    SetRiskLimit,
)

DEFAULT_SEED = 1993
DEFAULT_ORDERS = 2000
DEFAULT_ACCOUNTS = 200

FIRST_ACCOUNT = 1001
MANY_ORDERS = 1_000_000
"""Orders within a window that no account comes to."""

WINDOW = 30 * 24 * 3600.0
"""Seconds, and more than any run takes: of an account that is limited no order may leave it."""

FEW_ORDERS = 3
"""Orders that an account passes which is limited to so many, and sends twice as many."""

FEW_AMOUNT = Decimal("25.00")
"""The amount of each of them: whichever pass, the sum is known."""

MARGIN = Decimal("10000.00")
"""An order's limit is over all that its account may have by this much."""


class Fate(StrEnum):
    """What must become of an order."""

    EXECUTED = "executed"
    REFUSED_PARTNER = "refused: its partner is refused"
    OVER_LIMIT = "refused: over the account's limit"
    NO_MONEY = "refused: not enough money"
    SOME_OF_MANY = "some of too many within the window"
    """Of those of one account so many pass as its limit says, whichever come first."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An order, what must become of it, and the refunds that are asked for once it is executed."""

    order: PlaceOrder
    fate: Fate
    refunds: tuple[RequestRefund, ...] = ()
    refunds_paid: int = 0
    """How many of them must be paid; the others must be refused."""
    refunded: Decimal = Decimal("0.00")
    """The sum of those that must be paid, whichever they are."""


@dataclass(slots=True)
class Plan:
    """All that is sent, and so what must become of it."""

    accounts: list[OpenAccount] = field(default_factory=list)
    deposits: list[Deposit] = field(default_factory=list)
    limits: list[SetRiskLimit] = field(default_factory=list)
    refused_partners: list[RefusePartner] = field(default_factory=list)
    orders: list[Planned] = field(default_factory=list)
    copies: list[PlaceOrder] = field(default_factory=list)
    """Orders that are sent once more, under another message id; nothing may come of them."""
    bad_orders: list[bytes] = field(default_factory=list)
    """Bodies that are no orders; each must be dead-lettered."""
    bad_refunds: list[bytes] = field(default_factory=list)
    strange_refunds: list[RequestRefund] = field(default_factory=list)
    """Refunds of orders that nobody knows; each must be refused."""

    @property
    def executed(self) -> int:
        """How many orders must be executed."""
        fates = Counter(planned.fate for planned in self.orders)
        limited = {p.order.account_id for p in self.orders if p.fate is Fate.SOME_OF_MANY}
        return fates[Fate.EXECUTED] + FEW_ORDERS * len(limited)

    def paid(self) -> dict[str, Decimal]:
        """Sum what orders must pay."""
        sums: dict[str, Decimal] = {}
        passed: Counter[int] = Counter()
        for planned in self.orders:
            order = planned.order
            if planned.fate is Fate.SOME_OF_MANY:
                passed[order.account_id] += 1
            if planned.fate is Fate.EXECUTED or 0 < passed[order.account_id] <= FEW_ORDERS:
                sums[order.currency] = sums.get(order.currency, Decimal(0)) + order.amount
        return sums

    def refunds_paid(self) -> dict[str, Decimal]:
        """Sum what refunds must pay back."""
        sums: dict[str, Decimal] = {}
        for planned in self.orders:
            currency = planned.order.currency
            if planned.refunded:
                sums[currency] = sums.get(currency, Decimal(0)) + planned.refunded
        return sums

    def deposited(self) -> dict[str, Decimal]:
        """Sum what is paid in."""
        sums: dict[str, Decimal] = {}
        for deposit in self.deposits:
            sums[deposit.currency] = sums.get(deposit.currency, Decimal(0)) + deposit.amount
        return sums


@dataclass(frozen=True, slots=True)
class _Customer:
    account_id: int
    currency: Currency
    overdraft: Decimal
    is_limited: bool
    """Whether it may send a few orders only."""


def make_plan(
    *, seed: int = DEFAULT_SEED, orders: int = DEFAULT_ORDERS, accounts: int = DEFAULT_ACCOUNTS
) -> Plan:
    """Make up so many orders of so many accounts.

    :raises ValueError: there are fewer than ten accounts, or fewer orders than accounts
    """
    if not 10 <= accounts <= orders:  # noqa: PLR2004 - each tenth kind of account is there
        raise ValueError(
            f"a demo has ten accounts or more, and an order for each: {orders} orders of {accounts}"
        )
    # Not for secrecy: the same seed has to give the same orders.
    return _Planner(random.Random(seed)).plan(orders, accounts)


class _Planner:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._plan = Plan()
        self._partners = [self._partner() for _ in range(40)]
        self._refused = [self._partner() for _ in range(5)]

    def plan(self, orders: int, accounts: int) -> Plan:
        customers = [self._customer(number) for number in range(accounts)]
        fated = [(customer, self._fate(customer)) for customer in self._senders(customers, orders)]
        paid: Counter[int] = Counter()
        drafts = []
        for number, (customer, fate) in enumerate(fated):
            amount = FEW_AMOUNT if customer.is_limited else self._amount()
            if fate in (Fate.EXECUTED, Fate.SOME_OF_MANY):
                paid[customer.account_id] += int(amount * 100)
            drafts.append((number, customer, fate, amount))
        has = {customer: self._open(customer, paid[customer.account_id]) for customer in customers}
        for number, customer, fate, amount in drafts:
            self._plan.orders.append(self._order(number, customer, fate, amount, has[customer]))
        self._refuse_partners()
        self._copy_and_spoil()
        return self._plan

    def _partner(self) -> Partner:
        bank = self._chance.choice(("AB", "CD", "EF", "GH", "IJ", "KL", "MN"))
        return Partner(bank=bank, account=str(self._chance.randrange(10**6, 10**8)))

    def _customer(self, number: int) -> _Customer:
        currency = self._chance.choices(tuple(Currency), (8, 3, 1))[0]
        overdraft = Decimal(self._chance.choice((0, 0, 0, 100, 500))).quantize(Decimal("0.01"))
        return _Customer(FIRST_ACCOUNT + number, currency, overdraft, number % 50 == 7)  # noqa: PLR2004

    def _senders(self, customers: list[_Customer], orders: int) -> list[_Customer]:
        """Say whose each order is: of a few accounts a few, and of the others all the rest."""
        limited = [customer for customer in customers if customer.is_limited]
        senders = [customer for customer in limited for _ in range(2 * FEW_ORDERS)]
        others = [customer for customer in customers if not customer.is_limited]
        senders += self._chance.choices(others, k=orders - len(senders))
        self._chance.shuffle(senders)
        return senders

    def _fate(self, customer: _Customer) -> Fate:
        if customer.is_limited:
            return Fate.SOME_OF_MANY
        refused = (Fate.REFUSED_PARTNER, Fate.OVER_LIMIT, Fate.NO_MONEY)
        return self._chance.choices((Fate.EXECUTED, *refused), (90, 4, 3, 3))[0]

    def _amount(self) -> Decimal:
        return Decimal(self._chance.randrange(100, 500_000)) / 100

    def _open(self, customer: _Customer, paid: int) -> Decimal:
        """Open an account with what its orders take, and some more; returns all that it has."""
        chance, plan = self._chance, self._plan
        account = {"account_id": customer.account_id, "currency": customer.currency}
        plan.accounts.append(
            OpenAccount.model_validate({**account, "overdraft": customer.overdraft})
        )
        parts = [paid + chance.randrange(1, 100_000), chance.randrange(1, 100_000)]
        for part, minor in enumerate(parts):
            deposit_id = f"cash-{customer.account_id}-{part}"
            money = {**account, "deposit_id": deposit_id, "amount": Decimal(minor) / 100}
            plan.deposits.append(Deposit.model_validate(money))
        has = Decimal(sum(parts)) / 100 + customer.overdraft
        plan.limits.append(
            SetRiskLimit(
                account_id=customer.account_id,
                currency=customer.currency,
                most_per_order=has + MARGIN,
                most_orders=FEW_ORDERS if customer.is_limited else MANY_ORDERS,
                window=WINDOW,
            )
        )
        return has

    def _order(
        self, number: int, customer: _Customer, fate: Fate, amount: Decimal, has: Decimal
    ) -> Planned:
        chance = self._chance
        beyond = Decimal(chance.randrange(1, int(MARGIN * 100))) / 100
        if fate is Fate.NO_MONEY:
            amount = has + beyond
        elif fate is Fate.OVER_LIMIT:
            amount = has + MARGIN + beyond
        partners = self._refused if fate is Fate.REFUSED_PARTNER else self._partners
        order = PlaceOrder(
            order_id=f"order-{number:06}",
            account_id=customer.account_id,
            partner=chance.choice(partners),
            amount=amount,
            currency=customer.currency,
            purpose=chance.choice(("", "rent", "a book", "číslo 12/2026")),
        )
        if fate is Fate.EXECUTED and chance.random() < 0.15:  # noqa: PLR2004 - so many are refunded
            return self._with_refunds(order)
        return Planned(order, fate)

    def _with_refunds(self, order: PlaceOrder) -> Planned:
        """Plan refunds: all of it, a part, three times 60 % at once, or more than was paid."""
        whole = order.amount
        most = (whole * Decimal("0.6")).quantize(Decimal("0.01"))
        part = (whole * Decimal("0.25")).quantize(Decimal("0.01"))
        amounts, paid = self._chance.choice(
            (
                ((whole,), (whole,)),
                ((part, part), (part, part)),
                ((most, most, most), (most,)),
                ((whole + Decimal("0.01"),), ()),
            )
        )
        refunds = tuple(
            RequestRefund(
                refund_id=f"{order.order_id}-{number}",
                order_id=order.order_id,
                amount=amount,
                currency=order.currency,
            )
            for number, amount in enumerate(amounts)
        )
        return Planned(order, Fate.EXECUTED, refunds, len(paid), sum(paid, Decimal("0.00")))

    def _refuse_partners(self) -> None:
        self._plan.refused_partners = [
            RefusePartner(partner=partner, reason="known for fraud") for partner in self._refused
        ]

    def _copy_and_spoil(self) -> None:
        chance, plan = self._chance, self._plan
        orders = [planned.order for planned in plan.orders]
        plan.copies = chance.sample(orders, max(len(orders) // 50, 1))
        for number, order in enumerate(chance.sample(orders, max(len(orders) // 100, 8))):
            plan.bad_orders.append(_spoilt(order, number))
        one = orders[0]
        refund = f'{{"refund_id":"bad-1","order_id":"{one.order_id}","currency":"{one.currency}",'
        plan.bad_refunds = [
            f'{refund}"amount":"0.00"}}'.encode(),
            f'{refund}"amount":"-5"}}'.encode(),
        ]
        plan.strange_refunds = [
            RequestRefund(
                refund_id=f"strange-{number}",
                order_id=f"never-{number}",
                amount=FEW_AMOUNT,
                currency=Currency.CZK,
            )
            for number in range(3)
        ]


def _spoilt(order: PlaceOrder, number: int) -> bytes:
    """Write an order as it must not be: each of these gets a clear reason, and moves no money."""
    # An id of its own, or with another content that of the order.
    fresh = order.model_copy(update={"order_id": f"bad-{number:06}"})
    body = fresh.model_dump(mode="json")
    match number % 6:
        case 0:
            body["amount"] = "-1.00"
        case 1:
            body["currency"] = "XXX"
        case 2:
            body["amount"] = "12345678901234567890.00"
        case 3:
            del body["partner"]
        case 4:
            return b"{ this is no order"
        case _:
            other = order.model_copy(update={"amount": order.amount + Decimal("0.01")})
            return other.model_dump_json().encode()
    return json.dumps(body).encode()
