"""Columns of texts go to PostgreSQL as one text each, and are there what they were."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sqlalchemy import select, text

from mqkit.message import Delivery, Properties
from mqkit.store import Store, Transaction
from mqkit.store.database.postgresql.packing import numbers, pack, unpacked
from mqkit.store.schema import outbox
from tests.unit.store.support import delivery

ODD = (
    "",
    "\x1f",
    "\x1e",
    "\x1f\x1f",
    "a\x1fb\x1e",
    "\x1f1",
    "\x1f1\x1f",
    "\x1e1",
    "NULL",
    "{a,b}",
    '"',
    "\\",
    "\u20ac",
    " ",
)
"""Texts that have in them what stands between values, or what PostgreSQL writes arrays with."""

UNPACK = f"SELECT {unpacked(1, 2)}"


def drawn(count: int) -> Sequence[list[str | None]]:
    """Columns of such texts, and of what is put together from them."""
    made = random.Random(1)
    values = [None, *ODD, "a", "order.posted"]
    columns: list[list[str | None]] = [[value] for value in values]
    for _ in range(count):
        length = made.randint(1, 5)
        column = ["".join(made.choices(ODD, k=made.randint(1, 3))) for _ in range(length)]
        columns += [list(column), made.choices(values, k=length)]
    return columns


async def test_whatever_is_packed_is_unpacked(postgres_database: str) -> None:
    """Empty texts, NULL, and texts with the marks in them, alone and among others."""
    async with Store(postgres_database, relay=False) as store, store.transaction() as transaction:
        for column in drawn(200):
            (packed,), marks = pack([column])
            found = await transaction.driver_connection.fetchval(UNPACK, packed, *marks)
            assert found == column


async def test_columns_that_are_packed_together_have_the_same_marks() -> None:
    """A mark in the last of them changes the first one's, too."""
    plain, marks = pack([["a", None], ["b", "c"]])
    assert plain == ["\x1fa\x1f\x1e", "\x1fb\x1fc"]
    (first, _), others = pack([["a", None], ["b\x1e", "\x1e"]])
    assert others != marks
    assert first == f"{others.separator}a{others.separator}{others.null}"


async def test_numbers_and_flags_are_an_array(postgres_database: str) -> None:
    """Of any size that the column holds, and none of them at all."""
    given = [0, -1, 2**63 - 1, -(2**63), True, False]
    statement = "SELECT CAST(CAST($1 AS text) AS bigint[])"
    async with Store(postgres_database, relay=False) as store, store.transaction() as transaction:
        fetch = transaction.driver_connection.fetchval
        assert await fetch(statement, numbers(given)) == given
        assert await fetch(statement, numbers([])) == []


async def test_odd_texts_come_into_the_outbox_as_they_are(postgres_database: str) -> None:
    """Keys, ids, exchanges and routing keys of one transaction, each with its own message."""
    async with Store(postgres_database, relay=False) as store:
        async with store.transaction() as transaction:
            for number, each in enumerate(ODD):
                # An empty id is refused, and the default exchange has an empty name.
                await transaction.publish(
                    each, each, b"%d" % number, key=each or None, message_id=f"m{each}"
                )
        columns = ("exchange", "routing_key", "body", "order_key", "message_id", "mandatory")
        async with store.transaction() as transaction:
            query = select(*(outbox.c[name] for name in columns)).order_by(outbox.c.id)
            found = (await transaction.execute(query)).all()
    assert [tuple(row) for row in found] == [
        (each, each, b"%d" % number, each or None, f"m{each}", True)
        for number, each in enumerate(ODD)
    ]


async def test_odd_message_ids_are_known_again(postgres_database: str) -> None:
    """Those of a batch, by the inbox; each has its effect once."""
    deliveries = [delivery(f"m{each}") for each in ODD]
    runs: list[int] = []

    async def run(_: Transaction, left: Sequence[Delivery]) -> Sequence[None]:
        runs.append(len(left))
        return [None] * len(left)

    async with Store(postgres_database, relay=False) as store:
        await store.run_batch_once("h", deliveries, run)
        again = [
            Delivery(properties=Properties(message_id=each.message_id), queue="q")
            for each in deliveries
        ]
        await store.run_batch_once("h", again, run)
        async with store.transaction() as transaction:
            found = await transaction.execute(text("SELECT message_id FROM mqkit_inbox"))
            assert {row.message_id for row in found} == {f"m{each}" for each in ODD}
    assert runs == [len(ODD)]
