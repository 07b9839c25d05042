"""A ledger, as services keep one: its tables, and what it does with one order.

Every effect is counted twice over. `posting` has a row for each business key, and cannot have two.
`effect` has no such constraint: a second effect adds a row to it, moves the balances again, and
publishes another event, so that nothing hides it.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

from pydantic import BaseModel
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    bindparam,
    insert,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from mqkit.store import SyncTransaction, Transaction

PLACES = 8
"""Digits after the point of an amount."""


class Scaled(TypeDecorator[Decimal]):
    """An amount where the database knows no decimals: so many of its last digit."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """From the program to the database."""
        return None if value is None else int(value.scaleb(PLACES))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """From the database to the program."""
        return None if value is None else Decimal(value).scaleb(-PLACES)


Amount = Numeric(30, PLACES).with_variant(Scaled(), "sqlite")

metadata = MetaData()

account = Table(
    "account",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("balance", Amount, nullable=False),
    # The account's row is locked until the commit: it counts in the order of the commits.
    Column("orders", Integer, nullable=False),
)

posting = Table(
    "posting",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("debit", String(64), nullable=False),
    Column("credit", String(64), nullable=False),
    Column("amount", Amount, nullable=False),
    Column("event", String(64), nullable=False),
)

effect = Table(
    "effect",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("key", String(64), nullable=False),
)

hold = Table(
    "hold",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    comment="who inserts a row may be held up in the commit, by a trigger",
)


class Order(BaseModel):
    """A message to the ledger; the secrets that come with it are nobody's business."""

    key: str
    debit: str
    credit: str
    amount: Decimal
    card: str = ""
    seconds: float = 0.0
    """What the handler takes, in its transaction."""
    failures: int = 0
    """Attempts that fail, after all has been done and before the commit."""
    held: bool = False
    """It is held up in its commit, where the row holds commits up."""


class Event(BaseModel):
    """What the ledger publishes for each posting."""

    key: str
    account: str
    number: int
    """Of the account's orders, from 1, in the order of their commits."""
    card: str = ""


class FailedOnPurposeError(Exception):
    """The order asked for it."""


MOVE = (
    update(account)
    .where(account.c.name == bindparam("named"))
    .values(
        balance=account.c.balance + bindparam("moved", type_=Amount),
        orders=account.c.orders + bindparam("more", type_=Integer),
    )
    .returning(account.c.orders)
)


async def post(order: Order, transaction: Transaction, events: str) -> None:
    """Move the amount, and publish one event to the queue `events`, in the order of the account."""
    number = 0
    # In one order for all, so that two orders do not wait for each other.
    for name, sign in sorted([(order.debit, -1), (order.credit, 1)]):
        counts = {"named": name, "moved": sign * order.amount, "more": int(name == order.debit)}
        moved = await transaction.execute(MOVE, counts)
        count = moved.scalar_one()
        number = count if name == order.debit else number
    event = Event(key=order.key, account=order.debit, number=number, card=order.card)
    event_id = await transaction.publish("", events, event, key=order.debit)
    if order.held:
        await transaction.execute(insert(hold))
    insert_one = _post(transaction.connection.dialect.name)
    await transaction.execute(insert_one, _values(order, event_id))
    # Written with those of the others that share the transaction.
    transaction.add(effect, {"key": order.key})


LOCK = "SELECT FROM account WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE"
"""In one order for all, so that two transactions do not wait for each other."""

MOVE_ALL = """
UPDATE account SET balance = balance + moved.amount, orders = orders + moved.more
FROM unnest($1::text[], $2::numeric[], $3::int[]) AS moved (name, amount, more)
WHERE account.name = moved.name
RETURNING account.name, orders
"""


async def post_all(orders: Sequence[Order], transaction: Transaction, events: str) -> None:
    """Do what `post` does for each of these, in their order, by four statements of PostgreSQL's."""
    moved: defaultdict[str, Decimal] = defaultdict(Decimal)
    for order in orders:
        moved[order.debit] -= order.amount
        moved[order.credit] += order.amount
    more = Counter(order.debit for order in orders)
    names = sorted(moved)
    driver = transaction.driver_connection
    await driver.execute(LOCK, names)
    columns = names, [moved[name] for name in names], [more[name] for name in names]
    counts = {name: count - more[name] for name, count in await driver.fetch(MOVE_ALL, *columns)}
    postings: list[dict[str, Any]] = []
    for order in orders:
        counts[order.debit] += 1
        number = counts[order.debit]
        event = Event(key=order.key, account=order.debit, number=number, card=order.card)
        event_id = await transaction.publish("", events, event, key=order.debit)
        postings.append(_values(order, event_id))
    await transaction.execute(_post("postgresql"), postings)
    transaction.add(effect, *({"key": order.key} for order in orders))


def _values(order: Order, event_id: str) -> dict[str, Any]:
    return {
        "key": order.key,
        "debit": order.debit,
        "credit": order.credit,
        "amount": order.amount,
        "event": event_id,
    }


class _Awaited:
    """A thread's transaction, as one whose methods are awaited."""

    def __init__(self, transaction: SyncTransaction) -> None:
        self._transaction = transaction
        self.connection = transaction.connection

    async def execute(self, *args: Any) -> Any:
        return self._transaction.execute(*args)

    def add(self, *args: Any) -> None:
        self._transaction.add(*args)

    async def publish(self, *args: Any, **options: Any) -> str:
        return self._transaction.publish(*args, **options)


def post_in_thread(order: Order, transaction: SyncTransaction, events: str) -> None:
    """Do what `post` does, of which nothing waits then."""
    with contextlib.suppress(StopIteration):
        post(order, cast(Transaction, _Awaited(transaction)), events).send(None)
        raise AssertionError("it waits")


@functools.cache
def _post(dialect: str) -> Any:
    insert_into = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert_into(posting).on_conflict_do_nothing()
