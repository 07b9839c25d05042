"""The ledger service, its handler called directly."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from handlers.accounting.reading import open_ledger
from handlers.ledger import post, service
from handlers.statements import entry_message_id
from mqkit import Delivery, Reject
from mqkit.message import Properties
from mqkit.store import Store, Transaction
from tests.unit.handlers.entries import entry


async def test_another_content_under_a_posted_id_is_rejected_with_its_line(database: str) -> None:
    """The handler dead-letters it alone; the reason begins with the line, and nothing changes."""
    fifth = Delivery(properties=Properties(headers={"file": "s.csv", "line": 5}))
    async with open_ledger(database) as ledger, Store(database) as store:
        async with store.transaction() as transaction:
            first = await post([entry(1, "1.00")], [Delivery()], transaction)
        async with store.transaction() as transaction:
            entries, deliveries = [entry(1, "2.00"), entry(2, "3.00")], [fifth, Delivery()]
            wrong, right = await post(entries, deliveries, transaction)
        assert first == [None]
        assert isinstance(wrong, Reject)
        assert str(wrong).startswith("line 5: transaction 1 is posted already")
        assert right is None
        assert await ledger.balance(7) == Decimal("4.00")


async def test_an_entry_under_another_message_id_is_posted_once(database: str) -> None:
    """The bank's id holds where the store's note does not: it is forgotten, or another message."""
    handler = next(each for each in service.handlers if each.function is post)
    async with open_ledger(database) as ledger, Store(database) as store:
        for message_id in (entry_message_id(entry(1)), "another", "another"):
            delivery = Delivery(
                queue=handler.queue.name,
                body=entry(1).model_dump_json().encode(),
                properties=Properties(message_id=message_id, headers={"line": 9}),
            )

            async def run(
                transaction: Transaction, deliveries: Sequence[Delivery]
            ) -> list[Reject | None]:
                return await post([entry(1)] * len(deliveries), list(deliveries), transaction)

            await store.run_batch_once(handler.name, [delivery], run)
        assert await ledger.balance(7) == Decimal("10.00")
        assert (await ledger.posted_after(0))[1] == [1]
